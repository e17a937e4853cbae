"""The kernels that compute attention, one file each, and the selection among them."""
