"""Mixture: which example comes at draw i, how draws are packed into rows, and the receipt of it all."""

from flantune.mixture.draw import DrawFunction
from flantune.mixture.order import Order, build_order
from flantune.mixture.packing import pack
from flantune.mixture.plan import plan
from flantune.mixture.rates import task_rates
from flantune.mixture.receipt import receipt

__all__ = ["DrawFunction", "Order", "build_order", "pack", "plan", "receipt", "task_rates"]
