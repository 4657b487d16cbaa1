"""What models are built of; nothing here is registered, and `inference` never imports it."""
