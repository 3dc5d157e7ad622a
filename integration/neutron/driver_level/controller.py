"""Neutron's OpenFlow controller, without the agent that its own application starts."""

from typing import Any

from neutron import privileged
from neutron.common import config as common_config
from neutron.conf.agent import common as agent_conf
from neutron.conf.agent import securitygroups_rpc as security_groups_conf
from neutron.conf.plugins.ml2.drivers import agent as ml2_agent_conf
from neutron.conf.plugins.ml2.drivers import ovs_conf
from neutron.plugins.ml2.drivers.openvswitch.agent.openflow.native import base_oskenapp
from neutron.plugins.ml2.drivers.openvswitch.agent.openflow.native import main as of_main
from os_ken.base import app_manager
from oslo_config import cfg
from oslo_log import log as logging
from oslo_privsep import priv_context

from sgflow_neutron import config as sgflow_config


class Controller(base_oskenapp.BaseNeutronAgentOSKenApp):
    """What os-ken looks for in this module."""


def configure(database: str, socket: str, log: str) -> None:
    """The options of the agent, as far as drivers and bridges read them."""
    security_groups_conf.register_securitygroups_opts()
    common_config.register_common_config_options()
    agent_conf.register_root_helper(cfg.CONF)
    ovs_conf.register_ovs_agent_opts(cfg.CONF)
    ml2_agent_conf.register_agent_opts(cfg.CONF)
    sgflow_config.register(cfg.CONF)
    logging.register_options(cfg.CONF)
    cfg.CONF(["--log-file", log], project="neutron")
    logging.setup(cfg.CONF, "neutron")
    # This runs as root already: what Neutron's own driver does by ovs-ofctl needs no helper.
    for context in vars(privileged).values():
        if isinstance(context, priv_context.PrivContext):
            context.set_client_mode(False)
    cfg.CONF.set_override("ovsdb_connection", database, "OVS")
    cfg.CONF.set_override("socket", socket, "SGFLOW")
    of_main.init_config()


def start() -> Any:
    """Listens for switches, in threads that end with this process."""
    manager = app_manager.AppManager.get_instance()
    manager.load_apps(["os_ken.app.ofctl.service", __name__])
    manager.instantiate_apps(**manager.create_contexts())
    (controller,) = (app for app in manager.applications.values() if isinstance(app, Controller))
    return controller
