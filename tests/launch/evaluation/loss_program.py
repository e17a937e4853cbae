"""Runs launch.eval with the given arguments; test_loss_text.py starts it on several devices."""

import sys

from launch import eval as evaluating

if __name__ == "__main__":
  sys.exit(evaluating.main(["launch.eval", *sys.argv[1:]]))
