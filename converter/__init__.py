"""From a trained network to checked `.tflite` files."""
