"""Volumes of pods as directories and files on this machine."""
