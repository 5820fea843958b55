// One cache, every node configured; the same mirror as examples/minimal, from TypeScript.

import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { RegistryMirror } from "@pulumi/swarm-registry-mirror";
import type { input } from "@pulumi/swarm-registry-mirror/types";

const config = new pulumi.Config();
const swarm = new docker.Provider("swarm", {
    host: config.require("dockerHost"),
    sshOpts: config.getObject<string[]>("sshOptions") ?? [],
});
const mirror = new RegistryMirror(
    "registry-mirror",
    {
        hostname: config.require("hostname"),
        image: config.require("image"),
        upstream: config.get("upstream"),
        checkImage: config.get("checkImage"),
        // with varnishImage, nodes that pull the same at the same moment are one download
        coalesce: false,
        // Plain values, known in a preview: what is declared follows from them.
        nodes: config.requireObject<input.SwarmNodeArgs[]>("nodes"),
        privateKey: config.requireSecret("sshPrivateKey"),
    },
    { providers: [swarm] },
);
export const url = mirror.url;
export const nodes = mirror.nodes;
