"""Every family against transformers: an imported model computes the same."""

import numpy as np

from t5x_style.interop.huggingface import (
  model_folder,
)


def test_an_imported_model_computes_the_same(name, pretrained, read_parameters, compare):
  model, path = pretrained(name)
  folder = model_folder.open_folder(path)
  compare(model, folder.correspondence.config, read_parameters(folder))


def test_scanned_and_unrolled_layers_are_the_same(name, pretrained, read_parameters):
  _, path = pretrained(name)
  scanned = read_parameters(model_folder.open_folder(path, scan_layers=True))
  unrolled = read_parameters(model_folder.open_folder(path, scan_layers=False))
  assert sum(x.size for x in scanned.values()) == sum(x.size for x in unrolled.values())
  for keys, array in unrolled.items():
    layer = next((key for key in keys if key.startswith("layers_")), None)
    if layer is None:
      np.testing.assert_array_equal(array, scanned[keys])
    elif keys not in scanned:
      stacked = tuple("layers" if key == layer else key for key in keys)
      if stacked in scanned:
        np.testing.assert_array_equal(array, scanned[stacked][int(layer.split("_")[1])])
