"""The part of the etcd v3 API that a supervisor and its tests need."""
