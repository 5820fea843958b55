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
    .first_byte_timeout = 60s;
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
    unset req.http.X-Patient;
    if (req.url !~ "/(manifests|blobs)/") {
        return (pass);
    }
    if (req.restarts == 0) {
        set req.grace = 0s;
    } else {
        # The registry did not answer in time: what we have is better than nothing, and else it may take its time.
        set req.http.X-Patient = "yes";
    }
    return (hash);
}

sub vcl_hash {
    hash_data(req.url);
    if (req.url ~ "/manifests/") {
        hash_data(req.http.Accept);
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
    if (bereq.url ~ "/manifests/" && bereq.url !~ "/sha256:" && !bereq.http.X-Patient) {
        # The registry asks its upstream about every tag, and waits as long as that takes.
        set bereq.first_byte_timeout = 5s;
    }
    unset bereq.http.X-Patient;
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

sub vcl_synth {
    if (resp.status == 503 && req.restarts == 0 && req.url ~ "/manifests/" && req.url !~ "/sha256:") {
        return (restart);
    }
    set resp.http.Content-Type = "application/json";
    synthetic("""{"errors": [{"code": "UNAVAILABLE", "message": "the mirror: """ + resp.reason + """"}]}""");
    return (deliver);
}
