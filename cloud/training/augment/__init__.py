"""Random views of pictures, as a shop's cameras might have seen them."""

from cloud.training.augment.camera import ShopCamera, draw_parameters, name_effects
from cloud.training.augment.views import random_views

__all__ = ["ShopCamera", "draw_parameters", "name_effects", "random_views"]
