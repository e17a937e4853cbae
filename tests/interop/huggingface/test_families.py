"""Every family against transformers: an imported model computes the same."""

import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.interop.huggingface import model_folder
from t5x_style.interop.huggingface.config_json import ConfigJson
from t5x_style.interop.huggingface.families import switch


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


@pytest.mark.parametrize(
  ("layers", "sparse", "every"),
  [((12, 12), (6, 6), 2), ((3, 5), (1, 2), 2), ((4, 2), (4, 2), 1), ((2, 2), (0, 1), 2)],
)
def test_every_nth_layer_of_switch_has_experts(layers, sparse, every):
  assert switch.from_config_json(switch_json(layers, sparse), {})["experts"].every == every


@pytest.mark.parametrize(
  ("layers", "sparse", "places"),
  [((12, 12), (3, 3), "[1, 5, 9]"), ((4, 4), (2, 4), "[0, 1, 2, 3]"), ((4, 4), (5, 5), "[]")],
)
def test_other_layers_of_switch_with_experts_are_refused(layers, sparse, places):
  with pytest.raises(UserError, match="give experts to the layers") as error:
    switch.from_config_json(switch_json(layers, sparse), {})
  assert f"{places} of the decoder" in str(error.value)


def switch_json(layers, sparse):
  names = ("num_layers", "num_decoder_layers")
  names += ("num_sparse_encoder_layers", "num_sparse_decoder_layers")
  return ConfigJson(dict(zip(names, (*layers, *sparse), strict=True)))
