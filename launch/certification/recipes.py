"""All recipes, by name."""

from . import catalogue, claims, elsewhere, nanogpt, twins
from .recipe import Recipe

_FOUND = {
  recipe.name: recipe
  for module in (twins, nanogpt, claims, elsewhere)
  for recipe in module.recipes()
}
RECIPES: dict[str, Recipe] = {name: _FOUND[name] for name in catalogue.ABOUT}
