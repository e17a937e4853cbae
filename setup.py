"""Lists the packages to install; pyproject.toml says everything else.

t5x_style is the only top-level name that is installed, as other packages are called launch (that of
ROS 2): the commands become t5x_style.launch, the gin files t5x_style/gin_configs.
"""

from setuptools import find_packages, setup

commands = [f"t5x_style.{name}" for name in find_packages(include=["launch*"])]
setup(packages=[*find_packages(include=["t5x_style*"]), *commands, "t5x_style.gin_configs"])
