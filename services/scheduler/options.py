"""The scheduler's options; names and defaults are kube-scheduler's."""

from dataclasses import dataclass

from tillerman.service import ServiceOptions, option


@dataclass(kw_only=True)
class SchedulerOptions(ServiceOptions):
    scheduler_name: str = option("default-scheduler", help="Pods with this spec.schedulerName are ours.")
    leader_elect: bool = option(True, help="Work only while holding the Lease, so that several may run.")
    leader_elect_lease_duration: float = option(15.0, help="Seconds until a Lease that is not renewed may be taken.")
    leader_elect_renew_deadline: float = option(10.0, help="Seconds after which a leader that cannot renew gives up.")
    leader_elect_retry_period: float = option(2.0, help="Seconds between attempts to take or renew the Lease.")
