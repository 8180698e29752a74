"""Hosts that let almost nothing out: no port but one, proxies, nothing to write to."""
