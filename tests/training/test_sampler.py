"""Batches show the training what it is to tell apart, and follow from seed and epoch alone."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cloud.training.recipe import Recipe
from cloud.training.sampler import Batch, epoch_batches, epoch_shape

PRODUCTS = 12
PLAIN = Recipe(batch=10, seed=3)
BY_PRODUCT = Recipe(batch=32, products_per_batch=6, photos_per_product=4, seed=3)


class Shop:
    """A catalog: products 0..K-1 with so many in-store photos each, packshots of some, three a category."""

    def __init__(self, in_store: list[int], packshots: list[int] | None = None) -> None:
        labels, is_packshot = [], []
        for product, count in enumerate(in_store):
            added = packshots[product] if packshots else 0
            labels += [product] * (count + added)
            is_packshot += [False] * count + [True] * added
        order = np.random.default_rng(0).permutation(len(labels))  # photos come in no useful order
        self.labels = np.array(labels, np.int32)[order]
        self.is_packshot = np.array(is_packshot, np.bool_)[order]
        self.categories = self.labels // 3

    def batches(self, recipe: Recipe, epoch: int = 0, prototypes: np.ndarray | None = None) -> list[Batch]:
        found = list(
            epoch_batches(
                self.labels, self.categories, self.is_packshot, recipe, epoch, prototypes=prototypes
            )
        )
        shape = epoch_shape(self.labels, self.is_packshot, recipe)
        assert [len(batch.photos) for batch in found] == [shape.batch] * shape.steps
        assert [batch.step for batch in found] == list(range(epoch * shape.steps, (epoch + 1) * shape.steps))
        for batch in found:
            assert (batch.labels == self.labels[batch.photos]).all()
        return found


SHOP = Shop([7] * PRODUCTS, [1] * PRODUCTS)


def all_photos(batches: list[Batch]) -> list[int]:
    return [int(photo) for batch in batches for photo in batch.photos]


EVERY_WAY = [
    PLAIN,
    Recipe(batch=10, packshots_per_batch=3),
    BY_PRODUCT,
    Recipe(batch=32, products_per_batch=6, photos_per_product=4, hard_share=0.5, packshots_per_batch=4),
]


@pytest.mark.parametrize("recipe", EVERY_WAY)
def test_the_same_seed_and_epoch_give_the_same_batches(recipe: Recipe) -> None:
    once, again = SHOP.batches(recipe, 2), SHOP.batches(recipe, 2)
    assert all_photos(once) == all_photos(again)


@pytest.mark.parametrize("recipe", EVERY_WAY)
def test_another_seed_or_epoch_gives_other_batches(recipe: Recipe) -> None:
    first = all_photos(SHOP.batches(recipe, 2))
    assert first != all_photos(SHOP.batches(recipe, 3))
    assert first != all_photos(SHOP.batches(replace(recipe, seed=4), 2))


def test_a_plain_shuffle_sees_every_photo_once_and_fills_the_last_batch_up() -> None:
    batches = SHOP.batches(PLAIN)
    photos = all_photos(batches)
    assert sorted(photos[:96]) == list(range(96))  # 96 photos in 10 batches of 10
    assert photos[96:] == photos[:4]


def test_a_plain_shuffle_of_a_whole_number_of_batches_repeats_nothing() -> None:
    photos = all_photos(Shop([5] * 6).batches(PLAIN))
    assert sorted(photos) == list(range(30))


def test_a_catalog_smaller_than_a_batch_is_one_batch() -> None:
    (batch,) = Shop([2, 1]).batches(PLAIN)
    assert sorted(batch.photos.tolist()) == [0, 1, 2]


def test_a_plain_batch_has_the_packshots_asked_for_in_turn() -> None:
    recipe = Recipe(batch=10, packshots_per_batch=4)
    batches = SHOP.batches(recipe)
    added = [batch.photos[-4:] for batch in batches]
    assert all(SHOP.is_packshot[photos].all() for photos in added)
    counts = Counter(np.concatenate(added).tolist())
    assert max(counts.values()) - min(counts.values()) <= 1
    own = np.concatenate([batch.photos[:-4] for batch in batches])
    assert set(own.tolist()) == set(range(96))


def test_p_times_k_gives_k_different_photos_of_each_of_p_products() -> None:
    for batch in SHOP.batches(BY_PRODUCT):
        assert sorted(Counter(batch.labels.tolist()).values()) == [4] * 6
        assert len(set(batch.photos.tolist())) == 24
        assert all(len(set(group)) == 1 for group in batch.labels.reshape(6, 4).tolist())


def test_products_are_drawn_in_turn_however_many_photos_they_have() -> None:
    shop = Shop([40] + [4] * (PRODUCTS - 1))
    counts = Counter(np.concatenate([batch.labels for batch in shop.batches(BY_PRODUCT)]).tolist())
    assert set(counts) == set(range(PRODUCTS))
    assert max(counts.values()) - min(counts.values()) <= 4  # one draw of four photos


def test_the_photos_of_a_product_are_shown_in_turn() -> None:
    shop = Shop([6] * 6)
    photos = [number for epoch in range(4) for number in all_photos(shop.batches(BY_PRODUCT, epoch))]
    # Two draws of four an epoch from six photos: each is seen once or twice.
    assert set(photos) == set(range(36))
    for epoch in range(4):
        counts = Counter(all_photos(shop.batches(BY_PRODUCT, epoch)))
        assert set(counts.values()) <= {1, 2} and len(counts) == 36


def test_a_hard_share_draws_products_of_the_same_category() -> None:
    shop = Shop([8] * 60)  # of 20 categories

    def same_category(hard_share: float) -> float:
        recipe = Recipe(batch=32, products_per_batch=8, photos_per_product=4, hard_share=hard_share)
        alike = [
            len(products) - len({product // 3 for product in products})
            for batch in shop.batches(recipe)
            for products in [set(batch.labels.tolist())]
        ]
        return float(np.mean(alike))

    assert same_category(0.0) < 2
    assert same_category(0.5) >= 3.5  # four look-alikes beside four others


def test_a_hard_share_draws_the_nearest_by_prototypes_where_there_are_any() -> None:
    shop = Shop([4] * 60)
    # Twins are the products whose numbers differ by 30: of another category each.
    half = np.random.default_rng(0).normal(size=(64, 30))
    prototypes = np.concatenate([half, half], axis=1).astype(np.float32)
    prototypes /= np.linalg.norm(prototypes, axis=0)
    recipe = Recipe(batch=32, products_per_batch=2, photos_per_product=4, hard_share=0.5)
    near = prototypes.T @ prototypes
    np.fill_diagonal(near, -1)
    ranks = []
    for batch in shop.batches(recipe, prototypes=prototypes):
        anchor, drawn = dict.fromkeys(batch.labels.tolist())
        ranks.append(int((near[anchor] > near[anchor, drawn]).sum()))
    assert max(ranks) < 5 and len(set(ranks)) > 1
    assert 0 in ranks


def test_look_alikes_never_repeat_a_product() -> None:
    recipe = Recipe(batch=48, products_per_batch=12, photos_per_product=4, hard_share=1.0)
    for batch in SHOP.batches(recipe):
        assert set(batch.labels.tolist()) == set(range(PRODUCTS))


def test_products_without_a_category_are_no_look_alikes_of_each_other() -> None:
    shop = Shop([4] * 40)
    shop.categories = np.full(len(shop.labels), -1, np.int32)
    recipe = Recipe(batch=32, products_per_batch=8, photos_per_product=4, hard_share=0.5)
    counts = Counter(np.concatenate([batch.labels for batch in shop.batches(recipe)]).tolist())
    assert set(counts.values()) == {4}  # then all come in turn: 5 steps of 8 products


def test_a_packshot_stands_beside_in_store_photos_of_its_product() -> None:
    recipe = Recipe(batch=32, products_per_batch=6, photos_per_product=4, packshots_per_batch=3)
    seen = set()
    for batch in SHOP.batches(recipe):
        packshots = SHOP.is_packshot[batch.photos]
        assert packshots.sum() == 3
        for place in np.flatnonzero(packshots):
            assert (batch.labels[place - 4 : place] == batch.labels[place]).all()
            assert not packshots[place - 4 : place].any()
        assert sorted(Counter(batch.labels.tolist()).values()) == [4, 4, 4, 5, 5, 5]
        seen |= set(batch.labels[packshots].tolist())
    assert len(seen) >= PRODUCTS // 2


def test_products_with_packshots_are_brought_in_where_too_few_were_drawn() -> None:
    packshots = [1, 1] + [0] * 38
    shop = Shop([4] * 40, packshots)
    recipe = Recipe(
        batch=32, products_per_batch=4, photos_per_product=4, packshots_per_batch=2, hard_share=0.5
    )
    for batch in shop.batches(recipe):
        assert {0, 1} <= set(batch.labels.tolist())
        assert len(set(batch.labels.tolist())) == 4
        assert shop.is_packshot[batch.photos].sum() == 2


def test_a_catalog_with_fewer_packshots_than_asked_for_gives_those_it_has() -> None:
    recipe = Recipe(batch=32, products_per_batch=4, photos_per_product=4, packshots_per_batch=4)
    none, one = Shop([4] * 8), Shop([4] * 8, [1] + [0] * 7)
    assert epoch_shape(none.labels, none.is_packshot, recipe).batch == 16
    assert epoch_shape(one.labels, one.is_packshot, recipe).batch == 17
    assert len(none.batches(recipe)) == 2
    assert all(one.is_packshot[batch.photos].sum() == 1 for batch in one.batches(recipe))


def test_a_product_with_a_packshot_alone_is_shown_by_it() -> None:
    shop = Shop([0, 3, 3], [1, 1, 0])
    recipe = Recipe(batch=32, products_per_batch=3, photos_per_product=2, packshots_per_batch=1)
    for batch in shop.batches(recipe):
        assert shop.is_packshot[batch.photos[batch.labels == 0]].all()
        assert (batch.labels == 0).sum() == 2


@settings(max_examples=60, deadline=None)
@given(
    in_store=st.lists(st.integers(1, 5), min_size=2, max_size=9),
    packshots=st.lists(st.integers(0, 2), min_size=9, max_size=9),
    products=st.integers(0, 10),
    photos=st.integers(1, 5),
    added=st.integers(0, 6),
    hard=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    nearest=st.booleans(),
)
def test_any_small_catalog_gives_batches_of_one_size(
    *,
    in_store: list[int],
    packshots: list[int],
    products: int,
    photos: int,
    added: int,
    hard: float,
    nearest: bool,
) -> None:
    shop = Shop(in_store, packshots)
    assume(products * photos != 1 or added)  # a recipe refuses batches of one photo
    recipe = Recipe(
        batch=60,
        products_per_batch=products,
        photos_per_product=photos if products else 0,
        packshots_per_batch=added,
        hard_share=hard,
    )
    prototypes = np.random.default_rng(0).normal(size=(4, len(in_store))).astype(np.float32)
    batches = shop.batches(recipe, prototypes=prototypes if nearest else None)
    if products:
        expected = min(products, len(in_store))
        assert all(len(set(batch.labels.tolist())) == expected for batch in batches)
    else:
        assert set(all_photos(batches)) == set(range(len(shop.labels)))
