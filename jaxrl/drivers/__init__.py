"""Chunks of iterations on a device, on a mesh of devices, or with environments on the host; and evaluation."""
