"""A source of images -> scores with their protocol -> tables and cards."""
