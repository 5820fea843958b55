vcl 4.1;

# Varnish between Traefik and the registry: clients that ask for the same thing at the same moment become one request.
#
# Owns nothing for long: the cache is the registry's. What is named by its digest cannot change and is kept for minutes; a tag
# is shared by those who ask within the same second, and kept longer only for when the upstream does not answer.

import std;

backend registry {
    .host = "@ADDRESS@";
    .port = "5000";
    .connect_timeout = 3s;
    # Docker gives a mirror 30 s to begin its answer; an error before that sends it to the upstream at once.
    .first_byte_timeout = 25s;
    .between_bytes_timeout = 60s;
}

sub vcl_recv {
    if (req.method != "GET" && req.method != "HEAD") {
        return (synth(405, "This mirror is read-only"));
    }
    # A pull needs images by name. The catalogue is nobody's business (and CVE-2023-2253).
    if (req.url !~ "^/v2/" || req.url ~ "^/v2/_") {
        return (synth(404, "Not part of a pull"));
    }
    # Docker sends a user's password for Docker Hub to its mirrors (moby#42022); it goes no further.
    unset req.http.Authorization;
    unset req.http.Cookie;
    if (req.url !~ "/(manifests|blobs)/") {
        return (pass);
    }
    if (req.restarts == 0) {
        unset req.http.X-Known;
    }
    if (req.http.X-Known == "ask") {
        # Everybody for himself: who waited for another one's answer would wait again if that one got none.
        set req.grace = 0s;
        set req.hash_ignore_busy = true;
    } else {
        set req.grace = 1d;
    }
    return (hash);
}

# A tag that we know, and that may be another image by now: the registry is asked, for a few seconds. If it does not answer,
# because its upstream does not, what we have is better than nothing.
sub vcl_hit {
    if (obj.ttl <= 0s && req.http.X-Known != "take") {
        set req.http.X-Known = "ask";
        return (restart);
    }
    return (deliver);
}

sub vcl_synth {
    if (resp.status == 503 && req.http.X-Known == "ask") {
        set req.http.X-Known = "take";
        return (restart);
    }
    set resp.http.Content-Type = "application/json";
    synthetic("""{"errors": [{"code": "UNAVAILABLE", "message": "the mirror: """ + resp.reason + """"}]}""");
    return (deliver);
}

sub vcl_hash {
    hash_data(req.url);
    if (req.url ~ "/manifests/") {
        # What a client takes decides what it gets. Docker lists it in another order each time, on a line each.
        std.collect(req.http.Accept, ", ");
        if (req.http.Accept ~ "oci\.image\.index") {
            hash_data("an OCI index");
        }
        if (req.http.Accept ~ "oci\.image\.manifest") {
            hash_data("an OCI manifest");
        }
        if (req.http.Accept ~ "distribution\.manifest\.list") {
            hash_data("a Docker list");
        }
        if (req.http.Accept ~ "distribution\.manifest\.v2") {
            hash_data("a Docker manifest");
        }
    }
    return (lookup);
}

sub vcl_miss {
    # Varnish would fetch the whole layer to answer it.
    if (req.method == "HEAD" && req.url ~ "/blobs/") {
        return (pass);
    }
    return (fetch);
}

sub vcl_backend_fetch {
    if (bereq.is_bgfetch) {
        return (abandon);
    }
    if (bereq.http.X-Known) {
        set bereq.first_byte_timeout = 5s;
        unset bereq.http.X-Known;
    }
    return (fetch);
}

sub vcl_backend_response {
    set beresp.grace = 0s;
    set beresp.keep = 0s;
    if (beresp.status != 200) {
        set beresp.ttl = 0s;
        set beresp.uncacheable = true;
    } else if (std.integer(beresp.http.Content-Length, 0) > @LARGEST@) {
        set beresp.ttl = 60s;
        set beresp.uncacheable = true;
    } else if (bereq.url ~ "/(blobs|manifests)/sha256:[0-9a-f]{64}$") {
        set beresp.ttl = 10m;
    } else {
        set beresp.ttl = 1s;
        set beresp.grace = 1d;
    }
    return (deliver);
}

sub vcl_backend_error {
    return (abandon);
}
