"""The machines in a shop: kiosk, shelf camera, command line, each a thin shell on `edge`."""
