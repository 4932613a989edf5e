// A stand-in for keel, for tests where the real one cannot be had: it does to workloads what keel 0.22.1 is documented
// to do, flaws included, and nothing else of keel (no chat bots, no Helm provider, no dashboard).
//
//	keel-stand-in -kubeconfig FILE -namespace NS -listen 127.0.0.1:9300
//
// Written from documented behaviour; no code of keel is in it. What it keeps of keel's flaws, because Moontide has to
// live beside them: an update is a full PUT of the cached object and is not tried again; images are never pinned; a tag
// that moved is rolled out through the annotation keel.sh/update-time alone; what was watched is forgotten at the end; and
// every look at what is tracked lists the pods of each workload twice, at five requests a second.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/Masterminds/semver"
	"github.com/robfig/cron"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// approval is as keel's API shows it.
type approval struct {
	ID             string               `json:"id"`
	Identifier     string               `json:"identifier"`
	Message        string               `json:"message"`
	CurrentVersion string               `json:"currentVersion"`
	NewVersion     string               `json:"newVersion"`
	VotesRequired  int                  `json:"votesRequired"`
	VotesReceived  int                  `json:"votesReceived"`
	Voters         map[string]time.Time `json:"voters"`
	Rejected       bool                 `json:"rejected"`
	Archived       bool                 `json:"archived"`
	Deadline       time.Time            `json:"deadline"`
	CreatedAt      time.Time            `json:"createdAt"`
	event          event
}

func (a *approval) approved() bool { return !a.Rejected && a.VotesReceived >= a.VotesRequired }

type event struct{ repository, tag, trigger string }

// watch is the poll job of one image, or of one repository.
type watch struct {
	image    reference
	digest   string
	schedule string
	single   bool
	next     time.Time
}

type keel struct {
	client   kubernetes.Interface
	registry *registryClient
	stores   map[string]cache.Store
	schedule string
	nodes    time.Time // when they were listed last
	scanned  time.Time // when what is tracked was looked at last
	tracked  []tracked

	mu        sync.Mutex
	watches   map[string]*watch
	approvals map[string]*approval
	asked     int
}

// workloads are copies of everything in the cache.
func (k *keel) workloads() []workload {
	var list []workload
	for kind, store := range k.stores {
		for _, o := range store.List() {
			list = append(list, workload{kind, o.(runtime.Object).DeepCopyObject()})
		}
	}
	return list
}

func isVersion(tag string) bool { _, err := semver.NewVersion(tag); return err == nil }

type tracked struct {
	image    reference
	policy   *policy
	schedule string
	running  []string // digests that the workload's pods report for it
}

// single decides between watching the digest of one tag and watching all tags.
func (t tracked) single() bool { return t.policy.kind == "force" && t.policy.matchTag }

func (t tracked) key() string {
	if t.single() || !isVersion(t.image.tag) {
		return t.image.repository() + ":" + t.image.tag
	}
	return t.image.repository()
}

// trackedImages are those of workloads with a policy and the trigger poll. The pods of each are listed twice: once for the
// platforms of their nodes, once for the digests that they run.
func (k *keel) trackedImages() []tracked {
	var list []tracked
	if time.Since(k.nodes) > 30*time.Second {
		k.client.CoreV1().Nodes().List(context.Background(), metav1.ListOptions{})
		k.nodes = time.Now()
	}
	for _, w := range k.workloads() {
		p := policyOf(w.meta().Labels, w.meta().Annotations)
		if p == nil {
			continue
		}
		w.pods(k.client)
		pods := w.pods(k.client)
		if w.trigger() != "poll" {
			continue
		}
		schedule := w.meta().Annotations["keel.sh/pollSchedule"]
		if _, err := cron.Parse(schedule); err != nil {
			schedule = k.schedule
		}
		for _, c := range w.containers() {
			if image, err := parseReference(c.Image); err == nil {
				list = append(list, tracked{image, p, schedule, running(pods, c.Name)})
			}
		}
	}
	return list
}

// running are the digests that pods report for a container.
func running(pods []corev1.Pod, container string) []string {
	var list []string
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil {
			continue
		}
		for _, s := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
			if i := strings.LastIndex(s.ImageID, "@"); s.Name == container && i >= 0 {
				list = append(list, s.ImageID[i+1:])
			}
		}
	}
	return list
}

// baseline is the digest that a tag is taken to have when its watch begins: the registry's, unless some workload runs
// neither that nor an image of its index. So what moved while nobody looked is found.
func (k *keel) baseline(t tracked, digest string, all []tracked) string {
	known := map[string]bool{digest: true}
	for _, child := range k.registry.children(t.image) {
		known[child] = true
	}
	for _, other := range all {
		if other.key() != t.key() || len(other.running) == 0 {
			continue
		}
		if !slices.ContainsFunc(other.running, func(d string) bool { return known[d] }) {
			return other.running[0]
		}
	}
	return digest
}

// scan brings the poll jobs in line with what is tracked, and runs those that are due.
func (k *keel) scan() {
	if time.Since(k.scanned) >= 3*time.Second {
		k.tracked = k.trackedImages() // takes its time: nobody waits for it
		k.scanned = time.Now()
	}
	all := k.tracked
	k.mu.Lock()
	defer k.mu.Unlock()
	seen, now := map[string]bool{}, time.Now()
	for _, t := range all {
		key := t.key()
		seen[key] = true
		w := k.watches[key]
		if w == nil {
			w = &watch{image: t.image, single: t.single()}
			if w.single {
				digest, err := k.registry.digest(t.image)
				if err != nil {
					log.Printf("first look at %s: %v", key, err)
					continue
				}
				w.digest = k.baseline(t, digest, all)
			}
			k.watches[key] = w
			log.Printf("watching %s, %s", key, t.schedule)
		}
		if w.schedule != t.schedule {
			w.schedule, w.next = t.schedule, now
		}
	}
	for key, w := range k.watches {
		if !seen[key] {
			delete(k.watches, key)
			log.Printf("watching %s no more", key)
			continue
		}
		if now.Before(w.next) {
			continue
		}
		schedule, err := cron.Parse(w.schedule)
		if err != nil {
			continue
		}
		w.next = schedule.Next(now)
		k.run(key, w, all)
	}
}

func (k *keel) run(key string, w *watch, all []tracked) {
	if w.single {
		digest, err := k.registry.digest(w.image)
		if err != nil {
			log.Printf("%s: %v", key, err)
			return
		}
		if digest != w.digest {
			w.digest = digest
			k.process(event{w.image.repository(), w.image.tag, "poll"})
		}
		return
	}
	tags, err := k.registry.tags(w.image)
	if err != nil {
		log.Printf("%s: %v", key, err)
		return
	}
	k.mu.Unlock() // what is tracked is looked at anew for each list of tags
	all = k.trackedImages()
	k.mu.Lock()
	sent := map[string]bool{}
	for _, t := range all {
		if t.key() != key {
			continue
		}
		if tag, ok := t.policy.best(t.image.tag, tags); ok && !sent[tag] {
			sent[tag] = true
			k.process(event{w.image.repository(), tag, "poll"})
		}
	}
}

// process applies an event to every workload whose policy agrees.
func (k *keel) process(e event) {
	log.Printf("event %s:%s (%s)", e.repository, e.tag, e.trigger)
	for _, w := range k.workloads() {
		p := policyOf(w.meta().Labels, w.meta().Annotations)
		if p == nil || e.trigger == "poll" && w.trigger() != "poll" {
			continue
		}
		current, changed := "", false
		for _, c := range w.containers() {
			image, err := parseReference(c.Image)
			if err != nil || image.repository() != e.repository {
				continue
			}
			if ok, err := p.shouldUpdate(image.tag, e.tag); err != nil || !ok {
				continue
			}
			current, changed = image.tag, true
			c.Image = image.short() + ":" + e.tag
		}
		if !changed {
			continue
		}
		if ok, err := k.approved(w, e, current); err != nil || !ok {
			if err != nil {
				log.Printf("%s: %v", w.identifier(), err)
			}
			continue
		}
		k.update(w, e, current)
	}
}

func (k *keel) update(w workload, e event, current string) {
	now := time.Now()
	if w.template().Annotations == nil {
		w.template().Annotations = map[string]string{}
	}
	w.template().Annotations["keel.sh/update-time"] = now.String()
	if w.meta().Annotations == nil {
		w.meta().Annotations = map[string]string{}
	}
	w.meta().Annotations["kubernetes.io/change-cause"] = fmt.Sprintf("keel automated update, version %s -> %s [%s]",
		current, e.tag, now.Format(time.RFC3339))
	if err := w.put(k.client); err != nil {
		log.Printf("update of %s failed: %v", w.identifier(), err)
		return
	}
	log.Printf("updated %s: %s -> %s", w.identifier(), current, e.tag)
	if a := k.approvals[w.identifier()+":"+e.tag]; a != nil {
		a.Archived = true
	}
}

// approved asks for votes; here labels come before annotations.
func (k *keel) approved(w workload, e event, current string) (bool, error) {
	read := func(key string) (string, bool) {
		if v, ok := w.meta().Labels[key]; ok {
			return v, true
		}
		v, ok := w.meta().Annotations[key]
		return v, ok
	}
	text, ok := read("keel.sh/approvals")
	if !ok {
		return true, nil
	}
	votes, err := strconv.Atoi(text)
	if err != nil || votes == 0 {
		return err == nil, err
	}
	hours := 24
	if text, ok := read("keel.sh/approvalDeadline"); ok {
		if n, err := strconv.Atoi(text); err == nil {
			hours = n
		}
	}
	id := w.identifier() + ":" + e.tag
	a := k.approvals[id]
	if a != nil && !a.Archived && time.Now().Before(a.Deadline) {
		return a.approved(), nil
	}
	now := time.Now()
	k.asked++
	k.approvals[id] = &approval{
		ID: strconv.Itoa(k.asked), Identifier: id, CurrentVersion: current, NewVersion: e.tag, VotesRequired: votes,
		Voters: map[string]time.Time{}, Deadline: now.Add(time.Duration(hours) * time.Hour), CreatedAt: now,
		Message: "New image is available for " + w.identifier(), event: e,
	}
	log.Printf("approval needed: %s", id)
	return false, nil
}

// ServeHTTP answers /healthz, /v1/approvals and the native webhook.
func (k *keel) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	if in.URL.Path == "/healthz" {
		fmt.Fprintln(out, "ok")
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case in.URL.Path == "/v1/webhooks/native" && in.Method == http.MethodPost:
		var body struct{ Name, Tag string }
		if json.NewDecoder(in.Body).Decode(&body) != nil || body.Name == "" || body.Tag == "" {
			http.Error(out, "name and tag are needed", http.StatusBadRequest)
			return
		}
		image, err := parseReference(body.Name + ":" + body.Tag)
		if err != nil {
			http.Error(out, err.Error(), http.StatusBadRequest)
			return
		}
		k.process(event{image.repository(), image.tag, "native"})
	case in.URL.Path == "/v1/approvals" && in.Method == http.MethodGet:
		list := []*approval{}
		for _, a := range k.approvals {
			list = append(list, a)
		}
		json.NewEncoder(out).Encode(list)
	case in.URL.Path == "/v1/approvals" && in.Method == http.MethodPost:
		var body struct{ Identifier, Voter, Action string }
		a := (*approval)(nil)
		if json.NewDecoder(in.Body).Decode(&body) == nil {
			a = k.approvals[body.Identifier]
		}
		if a == nil {
			http.Error(out, "there is no such approval", http.StatusNotFound)
			return
		}
		if body.Action == "reject" {
			a.Rejected = true
		} else if _, voted := a.Voters[body.Voter]; !voted {
			a.Voters[body.Voter] = time.Now()
			a.VotesReceived++
			if a.approved() {
				e := a.event
				e.trigger = "approval"
				k.process(e)
			}
		}
		json.NewEncoder(out).Encode(a)
	default:
		http.NotFound(out, in)
	}
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig; in the cluster when left out")
	namespace := flag.String("namespace", "", "only this namespace")
	listen := flag.String("listen", "127.0.0.1:9300", "address of the API")
	schedule := flag.String("schedule", "@every 1m", "schedule of workloads that name none")
	qps := flag.Float64("qps", 5, "requests a second to the API server; client-go's default, as keel has it")
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	config.QPS, config.Burst = float32(*qps), 2*int(*qps)
	client := kubernetes.NewForConfigOrDie(config)
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(*namespace))
	k := &keel{
		client: client, registry: newRegistryClient(), schedule: *schedule, watches: map[string]*watch{},
		approvals: map[string]*approval{}, stores: map[string]cache.Store{
			"deployment":  factory.Apps().V1().Deployments().Informer().GetStore(),
			"statefulset": factory.Apps().V1().StatefulSets().Informer().GetStore(),
			"daemonset":   factory.Apps().V1().DaemonSets().Informer().GetStore(),
			"cronjob":     factory.Batch().V1().CronJobs().Informer().GetStore(),
		},
	}
	stop := make(chan struct{})
	factory.Start(stop)
	factory.WaitForCacheSync(stop)
	go func() { log.Fatal(http.ListenAndServe(*listen, k)) }()
	log.Print("the stand-in for keel runs")
	go func() {
		for {
			k.scan()
			time.Sleep(time.Second)
		}
	}()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	<-signals
	close(stop)
}
