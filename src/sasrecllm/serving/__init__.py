"""The HTTP door: a trained run as a server, with what people add to it kept in a database."""
