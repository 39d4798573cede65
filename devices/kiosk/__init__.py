"""The kiosk: a page on the device's own screen that says what the camera sees."""
