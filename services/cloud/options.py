"""The cloud controller manager's options."""

from dataclasses import dataclass
from pathlib import Path

from tillerman.service import ServiceOptions, option
from tillerman.service.options import OptionsError


@dataclass(kw_only=True)
class CloudOptions(ServiceOptions):
    cloud_provider: str = option("local", help="local (this machine), or libcloud (EC2, OpenStack, GCE, …).")
    cloud_config: Path | None = option(None, help="YAML file with the provider's settings; libcloud needs it.")
    cluster_cidr: str = option("10.244.0.0/16", help="Addresses of all pods; routes outside it are left alone.")
    configure_cloud_routes: bool = option(True, help="Keep the cloud's routes to the nodes' pod CIDRs.")
    load_balancer_pool: str = option(
        "", help="local: network that load balancers get addresses from; empty: beside the Service range."
    )
    leader_elect: bool = option(True, help="Work only while holding the Lease, so that several may run.")
    leader_elect_lease_duration: float = option(15.0, help="Seconds until a Lease that is not renewed may be taken.")
    leader_elect_renew_deadline: float = option(10.0, help="Seconds after which a leader that cannot renew gives up.")
    leader_elect_retry_period: float = option(2.0, help="Seconds between attempts to take or renew the Lease.")

    def check(self) -> None:
        if self.cloud_provider not in ("local", "libcloud"):
            raise OptionsError(f'--cloud-provider: "{self.cloud_provider}" is neither local nor libcloud')
        if self.cloud_provider == "libcloud" and self.cloud_config is None:
            raise OptionsError("--cloud-provider=libcloud needs --cloud-config")
        super().check()
