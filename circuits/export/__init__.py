"""A model on a circuit, as a plain Hugging Face model: for generating, or for other tools."""

from circuits.export.ablated import ablated_model
from circuits.export.folder import AblatedModel, export_ablated

__all__ = ["AblatedModel", "ablated_model", "export_ablated"]
