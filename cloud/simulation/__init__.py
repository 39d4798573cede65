"""A fleet that is not there: virtual devices that speak the real protocol with a real server."""
