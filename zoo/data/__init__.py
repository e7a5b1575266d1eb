"""Training images: TensorFlow Datasets, folders, zips, the embedded sample; decoded, stored, batched."""
