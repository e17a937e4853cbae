"""Families of Hugging Face models, one file each: their config.json and tensors.

A family is a module that is listed in ../family_registry.py and defines:

  ARCHITECTURE          "encoder_only", "decoder_only" or "encoder_decoder"
  CLASSES               the transformers classes whose weights can be read, the usual one first
  BASE_PREFIX           begins the names of tensors of the base model in a model with a head
  HEAD_PREFIXES         begin the names of tensors that the base model does not have
  BUFFERS               patterns of tensors in files that are not parameters
  KEYS                  {model_type: the class of its keys in config.json}
  from_config_json(config_json, tensors)   -> fields of a TransformerConfig
  to_config_json(config)                   -> values of a config.json
  rules(config)         which tensor is which parameter, see ../tensor_rules.py
  aliases(config)       {name: another name of the same tensor} that files may hold besides

and, where a family needs it:

  UNUSED_TENSORS        {name: layout} of tensors that are no parameters of a Transformer
  copies(config)        {name: another} of tensors that have to repeat another one
  zeros(config)         {name: shape} of tensors of zeros that are no parameters of a Transformer
  as_written(config)    the model that is read back from what `to_config_json` writes
"""
