"""Lets `python -m cloud.commands` stand for `shelfsight-cloud`, where the script is not on the path."""

from cloud.commands import main

main(prog_name="shelfsight-cloud")
