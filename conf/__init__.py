"""Hydra configuration: a YAML file a command, a folder a group."""
