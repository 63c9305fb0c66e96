"""The figures that README shows, measured on real parts."""
