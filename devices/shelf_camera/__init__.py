"""The shelf camera: looks at a shelf now and then, tells which slots are empty or hold the wrong product."""
