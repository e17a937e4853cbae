"""The recipes of launch.certify: does this package learn as papers and PyTorch say it should?"""
