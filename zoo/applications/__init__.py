"""What people use the models for: functions of pictures and of a model's abilities, without TensorFlow."""
