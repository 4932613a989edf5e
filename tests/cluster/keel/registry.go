package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// reference is an image as keel sees it: a digest takes the tag's place.
type reference struct {
	registry, path, tag string
}

func (r reference) repository() string { return r.registry + "/" + r.path }

// short is what a new image string begins with: Docker Hub's lose their host.
func (r reference) short() string {
	if r.registry == hub {
		return strings.TrimPrefix(r.path, "library/")
	}
	return r.repository()
}

const hub = "index.docker.io"

func parseReference(text string) (reference, error) {
	var r reference
	name, digest, pinned := strings.Cut(text, "@")
	last := name[strings.LastIndex(name, "/")+1:]
	r.tag = "latest"
	if i := strings.LastIndex(last, ":"); i >= 0 {
		r.tag = last[i+1:]
		name = name[:len(name)-len(last)+i]
	}
	if pinned {
		r.tag = digest
	}
	first, rest, found := strings.Cut(name, "/")
	if found && (strings.ContainsAny(first, ".:") || first == "localhost") {
		r.registry, r.path = first, rest
	} else {
		r.registry, r.path = hub, name
		if !found {
			r.path = "library/" + name
		}
	}
	if r.path == "" || r.tag == "" {
		return r, fmt.Errorf("%q is no image", text)
	}
	return r, nil
}

const accept = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, " +
	"application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"

// registryClient asks registries without credentials; on loopback over plain http.
type registryClient struct {
	http http.Client
}

func newRegistryClient() *registryClient {
	return &registryClient{http: http.Client{Timeout: 30 * time.Second}}
}

func (c *registryClient) ask(method string, r reference, path string) (*http.Response, error) {
	scheme := "https"
	if strings.HasPrefix(r.registry, "127.0.0.1") || strings.HasPrefix(r.registry, "localhost") {
		scheme = "http"
	}
	request, err := http.NewRequest(method, fmt.Sprintf("%s://%s/v2/%s/%s", scheme, r.registry, r.path, path), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", accept)
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		return nil, fmt.Errorf("%s %s: %s", method, request.URL, answer.Status)
	}
	return answer, nil
}

// digest is that of the manifest which the tag points to.
func (c *registryClient) digest(r reference) (string, error) {
	answer, err := c.ask(http.MethodHead, r, "manifests/"+r.tag)
	if err != nil {
		return "", err
	}
	answer.Body.Close()
	return answer.Header.Get("Docker-Content-Digest"), nil
}

// children are the digests of an index' images; none when the tag points to a single image.
func (c *registryClient) children(r reference) []string {
	answer, err := c.ask(http.MethodGet, r, "manifests/"+r.tag)
	if err != nil {
		return nil
	}
	defer answer.Body.Close()
	var index struct {
		Manifests []struct {
			Digest string `json:"digest"`
		} `json:"manifests"`
	}
	if json.NewDecoder(io.LimitReader(answer.Body, 16<<20)).Decode(&index) != nil {
		return nil
	}
	var list []string
	for _, m := range index.Manifests {
		list = append(list, m.Digest)
	}
	return list
}

// tags is the list of all tags, one page of it.
func (c *registryClient) tags(r reference) ([]string, error) {
	answer, err := c.ask(http.MethodGet, r, "tags/list")
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var list struct {
		Tags []string `json:"tags"`
	}
	return list.Tags, json.NewDecoder(io.LimitReader(answer.Body, 16<<20)).Decode(&list)
}
