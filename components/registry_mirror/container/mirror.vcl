vcl 4.1;

# Varnish between Traefik and the registry: clients that ask for the same thing at the same moment become one request.
#
# Owns nothing for long: the cache is the registry's. What is named by its digest cannot change and is kept for minutes; a tag
# is shared by those who ask within the same second, and kept longer only for when the upstream does not answer.
#
# A client chooses every byte of its request, and what is stored serves others. So whatever decides what is stored, or under
# which key, is first brought into one of few spellings, or refused: the path, the query, Accept.

import std;

backend registry {
    .host = "@ADDRESS@";
    .port = "5000";
    .connect_timeout = 3s;
    # Docker gives a mirror 30 s to begin its answer; an error before that sends it to the upstream at once.
    .first_byte_timeout = 25s;
    .between_bytes_timeout = 60s;
}

# One spelling for each thing that a pull asks for; 404 for everything else (names and tags as the registry itself takes them,
# distribution reference/regexp.go): the catalogue (CVE-2023-2253), escapes, dots, double slashes, capitals in a name.
sub only_a_pull {
    # Some clients escape the colon of a digest.
    set req.url = regsuball(req.url, "%3[Aa]", ":");
    # Which registry a containerd client takes the mirror for. Kept apart for a mirror of several; no answer depends on it here.
    unset req.http.X-Mirror-Namespace;
    if (req.url ~ "[?&]ns=[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(&|$)") {
        set req.http.X-Mirror-Namespace = regsub(req.url, "^.*[?&]ns=([A-Za-z0-9.:-]+).*$", "\1");
    }
    # No answer depends on a query, but for the pages of a list of tags, which is shared with nobody.
    if (req.url !~ "/tags/list\?(n=[0-9]{1,6}|last=[A-Za-z0-9_][A-Za-z0-9._-]{0,127})(&n=[0-9]{1,6}|&last=[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?$") {
        set req.url = regsub(req.url, "\?.*$", "");
    }
    if (req.url == "/v2") {
        set req.url = "/v2/";
    }
    if (req.url != "/v2/" && (req.url ~ "^.{701}" || req.url !~ "^/v2/([a-z0-9]++((\.|__?|-++)[a-z0-9]++)*+/)+((manifests|blobs|referrers)/sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})|manifests/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|tags/list(\?[^?]*)?)$")) {
        return (synth(404, "Not part of a pull"));
    }
}

# What a client takes decides what it gets, so this is a part of the key. The registry gets exactly what the key was made of, or
# a client could be given one answer and leave another one for the rest. Docker lists the types in another order each time, on a
# line each; the registry reads them without regard to parameters (distribution registry/handlers/manifests.go).
sub only_known_types {
    std.collect(req.http.Accept, ",");
    set req.http.X-Accept = req.http.Accept;
    set req.http.Accept = "";
    if (req.http.X-Accept ~ "(?i)(^|,)[ \t]*application/vnd\.oci\.image\.index\.v1\+json[ \t]*(;|,|$)") {
        set req.http.Accept = req.http.Accept + ", application/vnd.oci.image.index.v1+json";
    }
    if (req.http.X-Accept ~ "(?i)(^|,)[ \t]*application/vnd\.oci\.image\.manifest\.v1\+json[ \t]*(;|,|$)") {
        set req.http.Accept = req.http.Accept + ", application/vnd.oci.image.manifest.v1+json";
    }
    if (req.http.X-Accept ~ "(?i)(^|,)[ \t]*application/vnd\.docker\.distribution\.manifest\.list\.v2\+json[ \t]*(;|,|$)") {
        set req.http.Accept = req.http.Accept + ", application/vnd.docker.distribution.manifest.list.v2+json";
    }
    if (req.http.X-Accept ~ "(?i)(^|,)[ \t]*application/vnd\.docker\.distribution\.manifest\.v2\+json[ \t]*(;|,|$)") {
        set req.http.Accept = req.http.Accept + ", application/vnd.docker.distribution.manifest.v2+json";
    }
    set req.http.Accept = regsub(req.http.Accept, "^, ", "");
    if (req.http.Accept == "") {
        unset req.http.Accept;
    }
    unset req.http.X-Accept;
}

sub vcl_recv {
    if (req.method != "GET" && req.method != "HEAD") {
        return (synth(405, "This mirror is read-only"));
    }
    if (req.restarts == 0) {
        unset req.http.X-Known;
        call only_a_pull;
        # Docker sends a user's password for Docker Hub to its mirrors (moby#42022); it goes no further.
        unset req.http.Authorization;
        unset req.http.Cookie;
    }
    if (req.url !~ "/(manifests|blobs)/[^/]+$") {
        return (pass);
    }
    if (req.url ~ "/manifests/[^/]+$") {
        call only_known_types;
    } else {
        unset req.http.Accept;
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
    hash_data(req.http.Accept);
    return (lookup);
}

sub vcl_miss {
    # Varnish would fetch the whole layer to answer it.
    if (req.method == "HEAD" && req.url ~ "/blobs/[^/]+$") {
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
    # The key is ours alone.
    unset beresp.http.Vary;
    unset beresp.http.Set-Cookie;
    if (beresp.status != 200) {
        set beresp.ttl = 0s;
        set beresp.uncacheable = true;
    } else if (std.integer(beresp.http.Content-Length, 0) > @LARGEST@) {
        set beresp.ttl = 60s;
        set beresp.uncacheable = true;
    } else if (bereq.url ~ "/(blobs|manifests)/sha(256|384|512):[0-9a-f]+$") {
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
