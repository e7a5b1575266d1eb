"""What people use the models for: functions of images and of a model's abilities, without TensorFlow."""
