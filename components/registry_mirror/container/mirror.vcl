vcl 4.1;

# Varnish between Traefik and the registry: clients that ask for the same thing at the same moment become one request.
#
# Owns nothing for long: the cache is the registry's. What is named by its digest cannot change and is kept for minutes; a tag
# is shared by those who ask within the same second, and kept longer only for when the upstream does not answer.
#
# A client chooses every byte of its request, and what is stored serves others. So whatever decides what is stored, or under
# which key, is first brought into one of few spellings, or refused: the path, the query, Accept.

import std;

# Admission: no body is begun that there may be no room for to its end.
#
# Varnish takes storage for a body while it arrives, after the client has been given the headers. What fills a store then is what
# cannot be thrown out: bodies that are still arriving, and those that are still being sent to somebody. Varnish has no limit for
# these, so they are counted here, as leases: an object has one from before its first byte until nobody needs it. A store's leases
# never exceed its limit, so whatever else is in it can always make room. A client without a lease still gets the body, passed on
# by itself, and kept for nobody.
#
# In C because VCL has neither counters nor a hook at the end of a body; a private pointer of the task has (vrt.h, PRIV_TASK). The
# counts live as long as the process, not as this configuration, which is loaded anew when the registry moves. No header of the C
# library is needed, because not every image has them.
C{
char *getenv(const char *);
int setenv(const char *, const char *, int);
int snprintf(char *, size_t, const char *, ...);
int sscanf(const char *, const char *, ...);
void *calloc(size_t, size_t);
void free(void *);
int sched_yield(void);
long time(long *);
int open(const char *, int, ...);
long read(int, void *, unsigned long);
int close(int);

enum { SMALL, MEMORY, DISK, PASSED, STORES };
static const char *const store_names[] = {"small", "memory", "disk"};

struct lease {
    long id, size, until;
    int store;
    unsigned users;
    struct lease *next;
};

/* Registries behind this Varnish, the one at the root being the first (render/varnish.py). */
#define REGISTRIES 64

/* A body that was begun a short time ago: if it is begun again, it did not come to its end. */
#define BEGINNINGS 4096
struct beginning {
    unsigned long what;
    long when;
};

struct admission {
    char locked;
    long used[STORES];
    struct lease *leases;
    struct beginning beginnings[BEGINNINGS];
    long silent_until[REGISTRIES];
    unsigned long unanswered[REGISTRIES];
    unsigned long passed_on, sent_away;
};

static struct admission *admission;
static const long limits[STORES] = {@SMALL@L, @MEMORY@L, @DISK@L, @PASSES@L};

/* A fetch that is over: its first client takes the lease over within this time, or has disconnected. */
#define HANDOVER 3
/* What an object takes beside its body: headers, a page at the end of each piece. */
#define OVERHEAD 16384L
#define SMALL_BODY 65536L

static void
admission_lock(void)
{
    while (__atomic_test_and_set(&admission->locked, __ATOMIC_ACQUIRE))
        (void)sched_yield();
}

static void
admission_unlock(void)
{
    __atomic_clear(&admission->locked, __ATOMIC_RELEASE);
}

/* Finds the process's counts, or begins them; in the thread that loads configurations. */
static void
admission_begin(void)
{
    char text[32];
    const char *found = getenv("MIRROR_ADMISSION");

    if (found != NULL && sscanf(found, "%p", (void **)&admission) == 1)
        return;
    admission = calloc(1, sizeof *admission);
    (void)snprintf(text, sizeof text, "%p", (void *)admission);
    (void)setenv("MIRROR_ADMISSION", text, 1);
}

static void
lease_sweep(long now)
{
    struct lease **at = &admission->leases, *lease;

    while ((lease = *at) != NULL) {
        if (lease->users == 0 && lease->until < now) {
            admission->used[lease->store] -= lease->size;
            *at = lease->next;
            free(lease);
        } else
            at = &lease->next;
    }
}

static void
lease_end(VRT_CTX, void *priv)
{
    struct lease *lease = priv;

    (void)ctx;
    admission_lock();
    if (--lease->users == 0)
        lease->until = time(NULL) + (lease->store == PASSED ? -1 : HANDOVER);
    lease_sweep(time(NULL));
    admission_unlock();
}

static const struct vmod_priv_methods lease_methods = {
    .magic = VMOD_PRIV_METHODS_MAGIC, .type = "lease", .fini = lease_end
};

/* The lease of this task, which has one at most. */
static int
lease_take(VRT_CTX, long id, long size, int store, int whatever_is_free)
{
    struct vmod_priv *task = VRT_priv_task(ctx, &lease_methods);
    struct lease *lease;

    if (task == NULL)
        return (0);
    if (task->priv != NULL)
        return (((struct lease *)task->priv)->id == id);
    admission_lock();
    lease_sweep(time(NULL));
    for (lease = admission->leases; lease != NULL; lease = lease->next)
        if (lease->id == id)
            break;
    if (lease == NULL && (whatever_is_free || admission->used[store] + size <= limits[store]) &&
        (lease = calloc(1, sizeof *lease)) != NULL) {
        lease->id = id;
        lease->size = size;
        lease->store = store;
        lease->next = admission->leases;
        admission->leases = lease;
        admission->used[store] += size;
    }
    if (lease != NULL) {
        lease->users++;
        task->priv = lease;
        task->methods = &lease_methods;
    }
    admission_unlock();
    return (lease != NULL);
}

/* A body that arrives: `text` is its id and its size. Chooses its store. */
static int
admit(VRT_CTX, const char *text, long largest_in_memory)
{
    long id, size;
    int store;

    if (text == NULL || sscanf(text, "%ld %ld", &id, &size) != 2 || size < 0)
        return (0);
    for (store = size <= SMALL_BODY ? SMALL : size <= largest_in_memory ? MEMORY : DISK; store <= DISK; store++) {
        if (VRT_stevedore(store_names[store]) != NULL && lease_take(ctx, id, size + OVERHEAD, store, 0)) {
            VRT_l_beresp_storage(ctx, VRT_stevedore(store_names[store]));
            return (1);
        }
        if (store == SMALL)
            return (0);
    }
    return (0);
}

/* How many seconds a body that broke off is remembered. */
#define BROKEN_OFF 60

/* Whether this body was begun before, and so broke off, within the last seconds. */
static int
begun_before(const char *url)
{
    unsigned long what = 14695981039346656037UL; /* FNV-1a; two of the same word cost one of them its first byte's haste */
    struct beginning *beginning;
    long now = time(NULL);
    int found;

    for (; url != NULL && *url != '\0'; url++)
        what = (what ^ (unsigned char)*url) * 1099511628211UL;
    beginning = &admission->beginnings[what % BEGINNINGS];
    admission_lock();
    found = beginning->what == what && now - beginning->when <= BROKEN_OFF;
    beginning->what = what;
    beginning->when = now;
    admission_unlock();
    return (found);
}

/* How many seconds it is remembered that the registry did not begin an answer in time, because its upstream is silent. */
#define SILENT 30

static unsigned
registry_number(const char *text)
{
    unsigned number;

    return (text != NULL && sscanf(text, "%u", &number) == 1 && number < REGISTRIES ? number : 0);
}

static void
was_silent(const char *text)
{
    __atomic_store_n(&admission->silent_until[registry_number(text)], time(NULL) + SILENT, __ATOMIC_RELAXED);
}

static int
is_silent(const char *text)
{
    return (time(NULL) < __atomic_load_n(&admission->silent_until[registry_number(text)], __ATOMIC_RELAXED));
}

/* Those who ask for a tag at once wait for one answer. If there is none, each of them in turn would ask, and wait as long as the
 * first. So a request notes how many questions for tags the registry has left unanswered, and does not ask if it is more by then. */
static void
was_unanswered(const char *text)
{
    (void)__atomic_add_fetch(&admission->unanswered[registry_number(text)], 1, __ATOMIC_RELAXED);
}

static void
note_unanswered(VRT_CTX, const char *text)
{
    unsigned long *count = &admission->unanswered[registry_number(text)];
    struct vmod_priv *task = VRT_priv_task(ctx, admission->unanswered);

    if (task != NULL)
        task->priv = (void *)__atomic_load_n(count, __ATOMIC_RELAXED);
}

static int
more_unanswered(VRT_CTX, const char *text)
{
    unsigned long *count = &admission->unanswered[registry_number(text)];
    struct vmod_priv *task = VRT_priv_task(ctx, admission->unanswered);

    return (task == NULL || task->priv != (void *)__atomic_load_n(count, __ATOMIC_RELAXED));
}

/* A body that is passed on, of which there may be so many. */
static int
admit_passed(VRT_CTX, const char *text)
{
    long id;
    int admitted = text != NULL && sscanf(text, "%ld", &id) == 1 && lease_take(ctx, id, 1, PASSED, 0);

    (void)__atomic_add_fetch(admitted ? &admission->passed_on : &admission->sent_away, 1, __ATOMIC_RELAXED);
    return (admitted);
}

/* A body that a client is to get: `text` is its id, its size and its store. */
static int
hold(VRT_CTX, const char *text, int whatever_is_free)
{
    long id, size;
    int store;

    return (text == NULL || sscanf(text, "%ld %ld %d", &id, &size, &store) != 3 || store < SMALL || store > DISK ||
        lease_take(ctx, id, size + OVERHEAD, store, whatever_is_free));
}

/* Varnish's own counters, as start-varnish.sh writes them, and those of the admission; false where nobody writes them. */
#define METRICS_BYTES 16384

static int
answer_metrics(VRT_CTX)
{
    char *text = calloc(1, 2 * METRICS_BYTES);
    long length = 0, part;
    int store, file = open("/tmp/metrics", 0);

    if (text != NULL && file >= 0) {
        while (length < METRICS_BYTES && (part = read(file, text + length, METRICS_BYTES - length)) > 0)
            length += part;
        length += snprintf(text + length, METRICS_BYTES, "# TYPE registry_mirror_varnish_leased_bytes gauge\n");
        admission_lock();
        lease_sweep(time(NULL));
        for (store = SMALL; store <= DISK; store++)
            length += snprintf(text + length, 128, "registry_mirror_varnish_leased_bytes{store=\"%s\"} %ld\n",
                store_names[store], admission->used[store]);
        admission_unlock();
        (void)snprintf(text + length, 512,
            "# TYPE registry_mirror_varnish_passed_on_total counter\nregistry_mirror_varnish_passed_on_total %lu\n"
            "# TYPE registry_mirror_varnish_sent_away_total counter\nregistry_mirror_varnish_sent_away_total %lu\n",
            admission->passed_on, admission->sent_away);
        VRT_synth_strands(ctx, TOSTRANDS(1, text));
    } else
        length = 0;
    if (file >= 0)
        (void)close(file);
    free(text);
    return (length > 0);
}
}C

sub vcl_init {
    C{ admission_begin(); }C
}

backend registry {
    .host = "@ADDRESS_0@";
    .port = "5000";
    .connect_timeout = 3s;
    # A client that gets an error asks the upstream at once. Docker with a containerd store never leaves a mirror that accepts and does
    # not answer, and docker with another store after 15 s.
    .first_byte_timeout = 10s;
    .between_bytes_timeout = 60s;
}
#@backends

# Which registry a request is for. The one at the root has no name here; each of the others has its name as the first element of
# the path, where a namespace of Docker Hub cannot have a dot. What is asked for by an alias is asked for by the registry's own
# name from here on, and so kept once. Says 404 where the client takes the mirror for another registry.
sub choose_registry {
    unset req.http.X-Mirror-Registry;
    # The name that the client has used.
    unset req.http.X-Mirror-Path;
    #@routes
}

# One spelling for each thing that a pull asks for; 404 for everything else (names and tags as the registry itself takes them,
# distribution reference/regexp.go): the catalogue (CVE-2023-2253), escapes, dots, double slashes, capitals in a name.
sub only_a_pull {
    # Some clients escape the colon of a digest.
    set req.url = regsuball(req.url, "%3[Aa]", ":");
    # Which registry a containerd client takes the mirror for: a cross-check of what `choose_registry` finds, and in no key.
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

# The types that a client accepts decide what it gets, so they are part of the key. The registry gets exactly what the key was made of, or
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
    # Traefik asks whether this process answers. Whether the registry does is no part of it: much is answered without.
    if (req.url == "/healthy") {
        return (synth(204, "Healthy"));
    }
    # Traefik leads those here that `metricsFrom` lists, and nobody else.
    if (req.url == "/metrics/varnish" && req.method == "GET") {
        return (synth(701, "Metrics"));
    }
    if (req.method != "GET" && req.method != "HEAD") {
        return (synth(405, "This mirror is read-only"));
    }
    if (req.restarts == 0) {
        unset req.http.X-Known;
        call only_a_pull;
        call choose_registry;
        # Docker sends a user's password for Docker Hub to its mirrors (moby#42022); it is dropped here.
        unset req.http.Authorization;
        unset req.http.Cookie;
    }
    # The registry has no referrers (distribution registry/api/v2/descriptors.go), so its 404 would send a client to the upstream:
    # docker 29 asks for those of each attested image, and pulls no such image where nobody answers.
    if (req.url ~ "/referrers/[^/]+$" && "@REFERRERS@" == "empty") {
        return (synth(200, "No referrers"));
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
        set req.grace = 0s;
        C{ note_unanswered(ctx, VRT_GetHdr(ctx, &VGC_HDR_REQ_X_2d_Mirror_2d_Registry)); }C
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
    # As long as it is sent to this client it cannot make room for others.
    set req.http.X-Lease = obj.http.X-Lease;
    C{ if (!hold(ctx, VRT_GetHdr(ctx, &VGC_HDR_REQ_X_2d_Lease), 0)) VRT_UnsetHdr(ctx, &VGC_HDR_REQ_X_2d_Lease); }C
    if (obj.http.X-Lease && !req.http.X-Lease) {
        return (pass);
    }
    return (deliver);
}

# Whose request began the fetch has no lease yet; there is one until now, the fetch's.
#
# Varnish ends every answer after 600 s, also one that is on its way all the time: 1.2 GB at 16 Mbit/s, 10 GB at 130. So a large
# one may take as long as it takes at 2 Mbit/s. No longer for the small ones, because who does not read holds a lease as long.
sub vcl_deliver {
    set sess.send_timeout = 600s + 1s * (std.real(resp.http.Content-Length, 0.0) / 262144.0);
    # Where the registry does not have a layer it does not answer ranges, but with all of it. A client that fetches a layer in parts
    # (containerd 2.1 and later, `bytes=0-` first) would have all of it fetched for each part, so the answer to the first one says that
    # there are no parts here, and takes it whole. Any other range is cut out of what comes, or its client would join wrong bytes.
    if (obj.uncacheable && resp.status == 200 && req.http.Range ~ "^bytes=0-$") {
        unset req.http.Range;
    }
    set req.http.X-Lease = resp.http.X-Lease;
    C{ (void)hold(ctx, VRT_GetHdr(ctx, &VGC_HDR_REQ_X_2d_Lease), 1); }C
    unset resp.http.X-Lease;
    # By this the gate knows the answer of a registry besides the one at the root from that of a Varnish that does not know it yet,
    # which asks the one at the root.
    unset resp.http.Mirror-Registry;
    if (req.http.X-Mirror-Path) {
        set resp.http.Mirror-Registry = req.http.X-Mirror-Path;
    }
    # A registry links to the next page of a list of tags by its own path.
    if (req.http.X-Mirror-Path && resp.http.Link) {
        set resp.http.Link = regsub(resp.http.Link, "^</v2/", "</v2/" + req.http.X-Mirror-Path + "/");
    }
    # How many MiB of this machine's disk were taken, and were asked for: known only here, and the gate reports it.
    if (req.url == "/v2/") {
        set resp.http.X-Mirror-Disk = "@TAKEN@ of @ASKED@";
    }
}

sub vcl_synth {
    if (resp.status == 204) {
        return (deliver);
    }
    if (resp.status == 701) {
        set resp.status = 200;
        set resp.reason = "OK";
        set resp.http.Content-Type = "text/plain; version=0.0.4; charset=utf-8";
        C{ if (!answer_metrics(ctx)) VRT_l_resp_status(ctx, 404); }C
        return (deliver);
    }
    if (resp.status == 503 && req.http.X-Known == "ask") {
        set req.http.X-Known = "take";
        return (restart);
    }
    set resp.http.Docker-Distribution-Api-Version = "registry/2.0";
    if (resp.status == 200) {
        set resp.http.Content-Type = "application/vnd.oci.image.index.v1+json";
        synthetic("""{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}""");
        return (deliver);
    }
    set resp.http.Content-Type = "application/json";
    # Where a registry has no referrers, clients look for a tag that is named after the digest. Of any other answer than a 404 to
    # this one containerd makes a pull that fails (core/remotes/docker/referrers.go).
    if (resp.status == 503 && req.url ~ "/manifests/sha(256-[0-9a-f]{64}|384-[0-9a-f]{96}|512-[0-9a-f]{128})$") {
        set resp.status = 404;
        synthetic("""{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "the mirror: """ + resp.reason + """"}]}""");
        return (deliver);
    }
    synthetic("""{"errors": [{"code": "UNAVAILABLE", "message": "the mirror: """ + resp.reason + """"}]}""");
    return (deliver);
}

sub vcl_hash {
    hash_data(req.url);
    hash_data(req.http.Accept);
    return (lookup);
}

# A HEAD, too, begins the one download: the registry itself fetches the whole layer before it answers that, and once
# for each (distribution registry/handlers/blob.go and proxy/proxyblobstore.go); here the answer is there with the first byte.
sub vcl_miss {
    # It has waited for the answer to another one's question for this tag, and there was none.
    if (req.http.X-Known == "ask" && !req.is_hitmiss) {
        C{ if (more_unanswered(ctx, VRT_GetHdr(ctx, &VGC_HDR_REQ_X_2d_Mirror_2d_Registry))) VRT_UnsetHdr(ctx, &VGC_HDR_REQ_X_2d_Known); }C
        if (!req.http.X-Known) {
            set req.http.X-Known = "take";
            return (restart);
        }
    }
    # A layer that there was no room for a moment ago: if the registry has it by now, it sends the part and not all of it.
    if (req.is_hitmiss && req.http.Range) {
        return (pass);
    }
    return (fetch);
}

sub vcl_backend_fetch {
    if (bereq.is_bgfetch) {
        return (abandon);
    }
    if (!bereq.http.X-Mirror-Registry) {
        set bereq.http.X-Mirror-Registry = "0";
    }
    if (bereq.http.X-Known || bereq.url ~ "/manifests/sha(256-[0-9a-f]{64}|384-[0-9a-f]{96}|512-[0-9a-f]{128})$") {
        set bereq.first_byte_timeout = 5s;
        unset bereq.http.X-Known;
    }
    # A pull asks for one thing after the other. The registry answers at once for whatever it has; only the first request waits.
    C{ if (is_silent(VRT_GetHdr(ctx, &VGC_HDR_BEREQ_X_2d_Mirror_2d_Registry))) VRT_l_bereq_first_byte_timeout(ctx, 1.5); }C
    #@fetch
    unset bereq.http.X-Lease;
    unset bereq.http.X-Refused;
    unset bereq.http.X-Begun;
    unset bereq.http.X-Mirror-Namespace;
    unset bereq.http.X-Mirror-Path;
    return (fetch);
}

sub vcl_backend_response {
    set bereq.http.X-Begun = "yes";
    # 401 and 403 are the upstream's answer to the mirror's account (registry 3.1.2 passes them on; Docker Hub says 401 to an image
    # that does not exist, too). A client would take it as meant for itself: it asks its user for a password, and reports it in
    # place of what the upstream itself answers it. Of a 404 it only learns to ask elsewhere.
    if (beresp.status == 401 || beresp.status == 403) {
        set bereq.http.X-Refused = beresp.status;
        return (error(404, "the upstream does not let the mirror have this"));
    }
    if (beresp.status >= 500 && bereq.url ~ "/manifests/sha(256-[0-9a-f]{64}|384-[0-9a-f]{96}|512-[0-9a-f]{128})$") {
        return (abandon);
    }
    set beresp.grace = 0s;
    set beresp.keep = 0s;
    # The key is ours alone.
    unset beresp.http.Vary;
    unset beresp.http.Set-Cookie;
    unset beresp.http.X-Lease;
    if (!bereq.uncacheable && beresp.status == 200) {
        set beresp.http.X-Lease = bereq.xid + " " + std.integer(beresp.http.Content-Length, -1);
        C{ if (!admit(ctx, VRT_GetHdr(ctx, &VGC_HDR_BERESP_X_2d_Lease), @LARGEST@L)) VRT_UnsetHdr(ctx, &VGC_HDR_BERESP_X_2d_Lease); }C
    }
    if (!beresp.http.X-Lease) {
        # Everybody for himself, now and (where there was no room) for some seconds; otherwise they would wait in a line.
        set beresp.ttl = 0s;
        if (beresp.status == 200) {
            set beresp.ttl = 5s;
        }
        set beresp.uncacheable = true;
        if (bereq.method == "GET" && std.integer(beresp.http.Content-Length, 65537) > 65536) {
            set beresp.http.X-Lease = bereq.xid;
            C{ if (!admit_passed(ctx, VRT_GetHdr(ctx, &VGC_HDR_BERESP_X_2d_Lease))) VRT_UnsetHdr(ctx, &VGC_HDR_BERESP_X_2d_Lease); }C
            if (!beresp.http.X-Lease) {
                std.log("mirror: no room, and too many bodies are passed on: docker is sent to the upstream");
                return (abandon);
            }
            unset beresp.http.X-Lease;
            std.log("mirror: no room, passed on");
        }
        return (deliver);
    }
    if (beresp.storage == storage.disk) {
        set beresp.http.X-Lease = beresp.http.X-Lease + " 2";
    } elsif (beresp.storage == storage.memory) {
        set beresp.http.X-Lease = beresp.http.X-Lease + " 1";
    } else {
        set beresp.http.X-Lease = beresp.http.X-Lease + " 0";
    }
    if (bereq.url ~ "/(blobs|manifests)/sha(256|384|512):[0-9a-f]+$") {
        # Once broken off, it is sent when all of it is here: docker with a containerd store has no image where a body breaks off, and
        # takes it elsewhere where none is begun.
        C{ if (begun_before(VRT_r_bereq_url(ctx))) VRT_l_beresp_do_stream(ctx, 0); }C
        # From the first byte on; if it was over before the last one, the next client would begin a second download.
        set beresp.ttl = 10m + 1s * (std.real(beresp.http.Content-Length, 0.0) / 262144.0);
    } else {
        set beresp.ttl = 1s;
        set beresp.grace = 1d;
    }
    return (deliver);
}

sub vcl_backend_error {
    if (bereq.url ~ "/manifests/[^/:]+$") {
        C{ was_unanswered(VRT_GetHdr(ctx, &VGC_HDR_BEREQ_X_2d_Mirror_2d_Registry)); }C
    }
    if (!bereq.http.X-Begun && now - bereq.time > 4s) {
        C{ was_silent(VRT_GetHdr(ctx, &VGC_HDR_BEREQ_X_2d_Mirror_2d_Registry)); }C
    }
    if (bereq.http.X-Refused) {
        set beresp.http.Mirror-Upstream-Status = bereq.http.X-Refused;
        set beresp.http.Docker-Distribution-Api-Version = "registry/2.0";
        set beresp.http.Content-Type = "application/json";
        if (bereq.url ~ "/manifests/") {
            synthetic("""{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "the mirror: """ + beresp.reason + """"}]}""");
        } else {
            synthetic("""{"errors": [{"code": "BLOB_UNKNOWN", "message": "the mirror: """ + beresp.reason + """"}]}""");
        }
        set beresp.ttl = 0s;
        set beresp.uncacheable = true;
        return (deliver);
    }
    return (abandon);
}
