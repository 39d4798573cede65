"""Trains embedders on the catalog's photos; the only package of the cloud that knows TensorFlow and Keras."""
