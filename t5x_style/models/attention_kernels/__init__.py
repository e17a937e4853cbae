"""The kernels that compute attention, one file each, and the choice among them."""
