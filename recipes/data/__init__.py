"""Image sets that recipes name, made of what is published."""
