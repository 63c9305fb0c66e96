"""What demo, tests and bench share: real parts, faults, a workload and its checker."""
