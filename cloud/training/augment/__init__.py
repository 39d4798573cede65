"""Random views of pictures, as a shop's cameras might have seen them.

numpy draws on the host all that is random about a batch (`draw_parameters`); a layer of `keras.ops` applies
it where the network runs (`ShopCamera`). So a view follows from (seed, step) alone, on every backend. In the
order in which the light passes them:

effect             recipe             strength                                                     ms
pasted             paste              packshot at 1/1.7..1 of its size, on 15..100 % of a photo    30
crop               crop_area          that share..1 of the area, aspect 3/4..4/3, mirrored         39
tilted             perspective        each corner moved by up to 16 % of the side                  15
turned             rotation           up to that many degrees (all views are sampled anew)         55
hand, box          occlusion          palm 16..34 %, box 20..60 % of the side, half and half       10
glare              glare              0.3..1.5 of white, a spot or a tube                           4
unsharp            blur               disk of radius 0.4..2 % of the side                           4
moved              motion             line of length 1.5..6 % of the side                           4
pixels             low_resolution     1.5..4 pixels become one, along a side                        5
lamp               color_temperature  red and blue times exp(+-0.3) against each other              4
light              exposure           up to that many stops, by shutter and by curve               10
color              jitter             brightness, contrast, saturation 1 +- that, tint a third      5
noise              noise              deviation 0..30 at white, grains of one or two pixels         5
JPEG               jpeg               quality 12..60, colors at half the resolution                10

The last column is the milliseconds of one core of an AVX-512 x86, busy with other things too, for a batch of
32 from 288 to 192 pixels, with these shares, from the top: 0.6 of 8 packshots, crop area 0.2, 0.25, 10
degrees (not in the sum), 0.3, 0.15, 0.125, 0.125, 0.125, 0.3, 1 stop, 0.4, 0.4 and 0.25. All at once take
145; plain `tf.image.crop_and_resize`, which skips pixels, takes 12. Drawing takes 4 on the host.
"""

from cloud.training.augment.camera import ShopCamera, draw_parameters, name_effects

__all__ = ["ShopCamera", "draw_parameters", "name_effects"]
