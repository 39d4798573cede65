"""A store's server between its devices and the cloud, so that ten devices cost one download."""
