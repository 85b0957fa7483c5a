"""How a step computes its gradients: in parts, and from which random states."""
