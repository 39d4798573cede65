"""Files for every target, and the networks that are refused."""

from pathlib import Path

import numpy as np
import pytest

from converter.admission import check_network_file
from converter.edgetpu import check_edge_tpu
from converter.graph import read_graph
from converter.metadata import read_metadata
from converter.network_file import read_note
from converter.parity import compare
from converter.quantize import TARGETS, convert, convert_each
from edge.errors import BadNetwork
from tests.converter.conftest import embed_all, pictures, write_note

pytestmark = pytest.mark.training


def test_every_target_gives_a_file_that_a_device_runs(network: Path, tmp_path: Path) -> None:
    looked_at = pictures(24)
    vectors = {}
    for target in TARGETS:
        path = tmp_path / f"{target}.tflite"
        path.write_bytes(convert(network, looked_at, target))
        vectors[target] = embed_all(path, looked_at)
        check_network_file(path.read_bytes(), target, input_size=32, dimension=8, target=target)
    assert compare(vectors["float32"], vectors["gpu"]).mean_cosine > 0.9999
    assert compare(vectors["float32"], vectors["cpu"]).mean_cosine > 0.99
    np.testing.assert_array_equal(vectors["cpu"], vectors["edgetpu"])


def test_an_edge_tpu_runs_its_file_from_end_to_end(network: Path) -> None:
    files = dict(convert_each(network, pictures(24), ("edgetpu", "cpu")))
    graph = read_graph(files["edgetpu"], "edgetpu")
    report = check_edge_tpu(graph)
    assert (report.refused, report.fallbacks, report.mapped) == (None, (), report.operations)
    assert {tensor.dtype for tensor in (*graph.inputs, *graph.outputs)} == {"uint8"}
    assert check_edge_tpu(read_graph(files["cpu"], "cpu")).fallbacks[0].operation == "DEQUANTIZE"
    told = read_metadata(graph, "edgetpu")
    assert told is not None and told.version == read_note(network).space


def test_the_same_network_and_photos_give_the_same_bytes(network: Path) -> None:
    again = dict(convert_each(network, pictures(24), ("cpu", "gpu")))
    assert again == dict(convert_each(network, pictures(24), ("cpu", "gpu")))


def test_the_float_file_gives_what_keras_gives(network: Path, tmp_path: Path) -> None:
    import keras

    path = tmp_path / "float32.tflite"
    path.write_bytes(convert(network, pictures(2), "float32"))
    stacked = np.stack(pictures(6)).astype(np.float32) / 127.5 - 1
    wanted = np.array(keras.models.load_model(network)(stacked)["embedding"])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(embed_all(path, pictures(6)), wanted, atol=1e-4)


def test_without_photos_nothing_is_converted(network: Path) -> None:
    with pytest.raises(BadNetwork, match="no photos"):
        convert(network, [], "cpu")


def test_pictures_of_another_size_are_refused(network: Path) -> None:
    with pytest.raises(BadNetwork, match="resize it"):
        convert(network, [np.zeros((16, 16, 3), np.uint8)], "cpu")


def test_weights_that_are_not_finite_are_refused_by_name(network: Path, tmp_path: Path) -> None:
    import keras

    model = keras.models.load_model(network)
    kernel, bias = model.get_layer("local").get_weights()
    model.get_layer("local").set_weights([kernel * np.nan, bias])
    model.save(tmp_path / "network.keras")
    write_note(tmp_path)
    with pytest.raises(BadNetwork, match="local/kernel is not finite"):
        convert(tmp_path / "network.keras", pictures(2), "cpu")


def test_shapes_that_are_not_fixed_are_refused(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((None, None, 3))
    local = keras.layers.Conv2D(8, 1)(inputs)
    model = keras.Model(inputs, {"embedding": keras.layers.GlobalAveragePooling2D()(local), "local": local})
    model.save(tmp_path / "network.keras")
    write_note(tmp_path)
    with pytest.raises(BadNetwork, match="shapes must be fixed"):
        convert(tmp_path / "network.keras", pictures(2), "cpu")


@pytest.mark.parametrize("changes", [{"dimension": 9}, {"input_size": 33}])
def test_a_note_that_tells_of_another_network_is_refused(
    network: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    (tmp_path / "network.keras").write_bytes(network.read_bytes())
    write_note(tmp_path, **changes)
    side = changes.get("input_size", 32)
    with pytest.raises(BadNetwork):
        convert(tmp_path / "network.keras", [np.zeros((side, side, 3), np.uint8)], "cpu")


def test_what_is_no_network_is_refused(network: Path, tmp_path: Path) -> None:
    with pytest.raises(BadNetwork, match="cannot be read"):
        convert(tmp_path / "network.keras", pictures(1), "cpu")
    write_note(tmp_path)
    whole = network.read_bytes()
    cuts = [whole[:length] for length in (0, 3, 30, 700, len(whole) // 2, len(whole) - 40, len(whole) - 1)]
    for data in (b"no network", *cuts):
        (tmp_path / "network.keras").write_bytes(data)
        with pytest.raises(BadNetwork, match="is not a Keras network"):
            convert(tmp_path / "network.keras", pictures(1), "cpu")
    (tmp_path / "network.json").write_text("{}")
    with pytest.raises(BadNetwork, match="does not describe"):
        convert(tmp_path / "network.keras", pictures(1), "cpu")
    with pytest.raises(BadNetwork, match="target 'tpu'"):
        convert(tmp_path / "network.keras", pictures(1), "tpu")
