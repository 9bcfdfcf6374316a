//! The field names Kubernetes has at the levels read here, up to version 1.35 and with those it dropped lately; and those of
//! Istio's `security.istio.io/v1`.
//!
//! Fields that mean nothing to the mesh are here so that `kubectl get -o yaml` passes while a typo does not. Deeper
//! levels that are not read are not checked.

pub(crate) const META: &[&str] = &[
    "annotations",
    "clusterName",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

pub(crate) const OWNER: &[&str] = &["apiVersion", "blockOwnerDeletion", "controller", "kind", "name", "uid"];

pub(crate) const OBJECT: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];

pub(crate) const LIST: &[&str] = &["apiVersion", "items", "kind", "metadata"];

pub(crate) const NAMESPACE_SPEC: &[&str] = &["finalizers"];

pub(crate) const NAMESPACE_STATUS: &[&str] = &["conditions", "phase"];

pub(crate) const NODE_SPEC: &[&str] =
    &["configSource", "externalID", "podCIDR", "podCIDRs", "providerID", "taints", "unschedulable"];

pub(crate) const NODE_STATUS: &[&str] = &[
    "addresses",
    "allocatable",
    "capacity",
    "conditions",
    "config",
    "daemonEndpoints",
    "declaredFeatures",
    "features",
    "images",
    "nodeInfo",
    "phase",
    "runtimeHandlers",
    "volumesAttached",
    "volumesInUse",
];

pub(crate) const POD_SPEC: &[&str] = &[
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "containers",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "ephemeralContainers",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostUsers",
    "hostname",
    "hostnameOverride",
    "imagePullSecrets",
    "initContainers",
    "nodeName",
    "nodeSelector",
    "os",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "resourceClaims",
    "resources",
    "restartPolicy",
    "runtimeClassName",
    "schedulerName",
    "schedulingGates",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "subdomain",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
    "workloadRef",
];

pub(crate) const CONTAINER: &[&str] = &[
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "restartPolicy",
    "restartPolicyRules",
    "securityContext",
    "startupProbe",
    "stdin",
    "stdinOnce",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "volumeDevices",
    "volumeMounts",
    "workingDir",
];

pub(crate) const CONTAINER_PORT: &[&str] = &["containerPort", "hostIP", "hostPort", "name", "protocol"];

pub(crate) const POD_STATUS: &[&str] = &[
    "allocatedResources",
    "conditions",
    "containerStatuses",
    "ephemeralContainerStatuses",
    "extendedResourceClaimStatus",
    "hostIP",
    "hostIPs",
    "initContainerStatuses",
    "message",
    "nominatedNodeName",
    "observedGeneration",
    "phase",
    "podIP",
    "podIPs",
    "qosClass",
    "reason",
    "resize",
    "resourceClaimStatuses",
    "resources",
    "startTime",
];

pub(crate) const POD_CONDITION: &[&str] =
    &["lastProbeTime", "lastTransitionTime", "message", "observedGeneration", "reason", "status", "type"];

pub(crate) const POD_IP: &[&str] = &["ip"];

pub(crate) const SERVICE_SPEC: &[&str] = &[
    "allocateLoadBalancerNodePorts",
    "clusterIP",
    "clusterIPs",
    "externalIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "internalTrafficPolicy",
    "ipFamilies",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "ports",
    "publishNotReadyAddresses",
    "selector",
    "sessionAffinity",
    "sessionAffinityConfig",
    "topologyKeys",
    "trafficDistribution",
    "type",
];

pub(crate) const SERVICE_PORT: &[&str] = &["appProtocol", "name", "nodePort", "port", "protocol", "targetPort"];

pub(crate) const SERVICE_STATUS: &[&str] = &["conditions", "loadBalancer"];

pub(crate) const LOAD_BALANCER: &[&str] = &["ingress"];

pub(crate) const LOAD_BALANCER_INGRESS: &[&str] = &["hostname", "ip", "ipMode", "ports"];

pub(crate) const ENDPOINT_SLICE: &[&str] = &["addressType", "apiVersion", "endpoints", "kind", "metadata", "ports"];

pub(crate) const ENDPOINT: &[&str] =
    &["addresses", "conditions", "deprecatedTopology", "hints", "hostname", "nodeName", "targetRef", "zone"];

pub(crate) const ENDPOINT_CONDITIONS: &[&str] = &["ready", "serving", "terminating"];

pub(crate) const ENDPOINT_PORT: &[&str] = &["appProtocol", "name", "port", "protocol"];

pub(crate) const OBJECT_REFERENCE: &[&str] =
    &["apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid"];

pub(crate) const IP_ADDRESS_SPEC: &[&str] = &["parentRef"];

pub(crate) const PARENT_REF: &[&str] = &["group", "name", "namespace", "resource"];

pub(crate) const AUTHORIZATION_SPEC: &[&str] = &["action", "provider", "rules", "selector", "targetRef", "targetRefs"];

pub(crate) const PROVIDER: &[&str] = &["name"];

pub(crate) const SELECTOR: &[&str] = &["matchLabels"];

pub(crate) const TARGET_REF: &[&str] = &["group", "kind", "name", "namespace"];

pub(crate) const RULE: &[&str] = &["from", "to", "when"];

pub(crate) const SOURCE: &[&str] = &[
    "ipBlocks",
    "namespaces",
    "notIpBlocks",
    "notNamespaces",
    "notPrincipals",
    "notRemoteIpBlocks",
    "notRequestPrincipals",
    "notServiceAccounts",
    "notTrustDomains",
    "principals",
    "remoteIpBlocks",
    "requestPrincipals",
    "serviceAccounts",
    "trustDomains",
];

pub(crate) const OPERATION: &[&str] =
    &["hosts", "methods", "notHosts", "notMethods", "notPaths", "notPorts", "paths", "ports"];

pub(crate) const CONDITION: &[&str] = &["key", "notValues", "values"];

pub(crate) const PEER_AUTHENTICATION_SPEC: &[&str] = &["mtls", "portLevelMtls", "selector"];

pub(crate) const MTLS: &[&str] = &["mode"];

pub(crate) const REQUEST_AUTHENTICATION_SPEC: &[&str] = &["jwtRules", "selector", "targetRef", "targetRefs"];

pub(crate) const JWT_RULE: &[&str] = &[
    "audiences",
    "forwardOriginalToken",
    "fromCookies",
    "fromHeaders",
    "fromParams",
    "issuer",
    "jwks",
    "jwksUri",
    "jwks_uri",
    "outputClaimToHeaders",
    "outputPayloadToHeader",
    "presence",
    "spaceDelimitedClaims",
    "timeout",
];

pub(crate) const JWT_HEADER: &[&str] = &["name", "prefix"];

pub(crate) const CLAIM_TO_HEADER: &[&str] = &["claim", "header"];
