"""What launch.convert reads and writes around the tensors.

model_gin.py      the gin files of the run that is exported, and those of an imported model
output_folder.py  a new folder that appears with all of its content, or not at all;
                  launch.checkpoint uses it, too
"""
