"""MiniStack with what it lacks for a stack with a VPC, MSK and Kafka-triggered Lambdas.

Same variables as `ministack` itself (GATEWAY_PORT, ...). It patches internals of 1.5.33: the
version is pinned in ministack.ts.

Adds CloudFormation types that MiniStack refuses: AWS::EC2::{EIP,NatGateway,SecurityGroupIngress,
SecurityGroupEgress}, AWS::MSK::{ServerlessCluster,Cluster,Configuration,ClusterPolicy}; keeps the
Kafka members of AWS::Lambda::EventSourceMapping, so that GetEventSourceMapping returns them; adds
the MSK V2 API (CreateClusterV2, DescribeClusterV2).
"""
import json, re, os, sys, threading, uuid
from ministack.services.cloudformation import provisioners as P
from ministack.services import msk, lambda_svc as L
from ministack.core.responses import get_account_id, get_region

H = P._RESOURCE_HANDLERS

def noop_update(physical_id, old, new, stack_name):
    return physical_id, {}

def simple(prefix, attrs=lambda pid, props: {}):
    def create(logical_id, props, stack_name):
        pid = f"{prefix}-{uuid.uuid4().hex[:17]}"
        return pid, attrs(pid, props)
    def update(pid, old, new, stack_name):
        return pid, attrs(pid, new)
    return {"create": create, "update": update, "delete": lambda pid, props: None}

H.setdefault("AWS::EC2::EIP", simple("eipalloc", lambda pid, p: {"AllocationId": pid, "PublicIp": "203.0.113.10"}))
H.setdefault("AWS::EC2::NatGateway", simple("nat", lambda pid, p: {"NatGatewayId": pid}))
H.setdefault("AWS::EC2::FlowLog", simple("fl", lambda pid, p: {"Id": pid}))
H.setdefault("AWS::EC2::SecurityGroupIngress", simple("sgr", lambda pid, p: {"Id": pid}))
H.setdefault("AWS::EC2::SecurityGroupEgress", simple("sgr", lambda pid, p: {"Id": pid}))

def _msk_create(kind):
    def create(logical_id, props, stack_name):
        req = {k[0].lower() + k[1:]: v for k, v in props.items()}
        req.setdefault("clusterName", f"{stack_name}-{logical_id}")
        req["numberOfBrokerNodes"] = int(req.get("numberOfBrokerNodes") or 3)
        status, _h, body = msk._create_cluster(json.dumps(req))
        out = json.loads(body)
        if status != 200:
            raise ValueError(out.get("Message", "MSK create failed"))
        arn = out["clusterArn"]
        msk._clusters[arn]["_Kind"] = kind
        return arn, {"Arn": arn, "CurrentVersion": "K3AEGXETSR30VB"}
    return create

def _msk_delete(pid, props):
    msk._delete_cluster(pid)

for t, kind in (("AWS::MSK::ServerlessCluster", "SERVERLESS"), ("AWS::MSK::Cluster", "PROVISIONED")):
    H.setdefault(t, {"create": _msk_create(kind), "delete": _msk_delete,
                     "update": lambda pid, o, n, s: (pid, {"Arn": pid, "CurrentVersion": "K3AEGXETSR30VB"})})

def _msk_conf_create(logical_id, props, stack_name):
    status, _h, body = msk._create_configuration(json.dumps({"name": props["Name"], "serverProperties": props["ServerProperties"],
                                                            "description": props.get("Description", ""), "kafkaVersions": props.get("KafkaVersionsList", [])}))
    out = json.loads(body)
    if status != 200:
        raise ValueError(out.get("Message"))
    return out["arn"], {"Arn": out["arn"], "LatestRevision.Revision": 1}
H.setdefault("AWS::MSK::Configuration", {"create": _msk_conf_create, "update": lambda pid, o, n, s: (pid, {"Arn": pid}), "delete": lambda pid, p: msk._configurations.pop(pid, None)})
H.setdefault("AWS::MSK::ClusterPolicy", {"create": lambda l, p, s: (p["ClusterArn"], {"CurrentVersion": "1"}), "update": noop_update, "delete": lambda pid, p: None})

# --- Lambda event source mapping: keep the Kafka members -------------------------------------
KAFKA_MEMBERS = ("Topics", "AmazonManagedKafkaEventSourceConfig", "SelfManagedEventSource", "SelfManagedKafkaEventSourceConfig",
                 "SourceAccessConfigurations", "ProvisionedPollerConfig", "StartingPositionTimestamp")
_orig_create = P._lambda_esm_create
def _esm_create(logical_id, props, stack_name):
    esm_id, attrs = _orig_create(logical_id, props, stack_name)
    esm = L._esms[esm_id]
    for k in KAFKA_MEMBERS:
        if props.get(k) is not None:
            esm[k] = props[k]
    if ":kafka:" in (props.get("EventSourceArn") or "") or props.get("SelfManagedEventSource"):
        esm["BatchSize"] = int(props.get("BatchSize", 100))
    return esm_id, attrs
P._lambda_esm_create = _esm_create
H["AWS::Lambda::EventSourceMapping"]["create"] = _esm_create

# MSK V2 shape
_orig_handle = msk.handle_request
async def handle_request(method, path, headers, body, query_params):
    if path.startswith("/api/v2/clusters"):
        from urllib.parse import unquote
        rest = unquote(path[len("/api/v2/clusters"):].lstrip("/"))
        if method == "POST" and not rest:
            req = json.loads(body or b"{}")
            inner = dict(req.get("provisioned") or {})
            inner["clusterName"] = req.get("clusterName"); inner["tags"] = req.get("tags") or {}
            status, h, b = msk._create_cluster(json.dumps(inner))
            if status == 200:
                out = json.loads(b); kind = "SERVERLESS" if "serverless" in req else "PROVISIONED"
                msk._clusters[out["clusterArn"]]["_Kind"] = kind
                b = json.dumps({**out, "clusterType": kind}).encode()
            return status, h, b
        if method == "GET":
            def v2(i):
                kind = i.get("_Kind", "PROVISIONED")
                return {"clusterArn": i["ClusterArn"], "clusterName": i["ClusterName"], "clusterType": kind, "state": i["State"], "creationTime": i["CreationTime"], "currentVersion": i["CurrentVersion"], kind.lower(): {}}
            if rest:
                i = msk._clusters.get(rest)
                if not i:
                    return msk._not_found(f"Cluster {rest} not found.")
                return 200, {"Content-Type": "application/json"}, json.dumps({"clusterInfo": v2(i)}).encode()
            return 200, {"Content-Type": "application/json"}, json.dumps({"clusterInfoList": [v2(i) for i in msk._clusters.values()]}).encode()
    return await _orig_handle(method, path, headers, body, query_params)

# Topics of MSK's API: kept, not made on a broker.
_topics = {}
_TOPICS_RE = re.compile(r"^/v1/clusters/(.+?)/topics(?:/([^/]+))?$")
_handle_clusters = handle_request
async def handle_topics(method, path, headers, body, query_params):
    m = _TOPICS_RE.match(path)
    if not m:
        return await _handle_clusters(method, path, headers, body, query_params)
    from urllib.parse import unquote
    arn, topic = unquote(m.group(1)), unquote(m.group(2) or "")
    if arn not in msk._clusters:
        return msk._not_found(f"Cluster {arn} not found.")
    request = json.loads(body or b"{}")
    if method == "POST":
        topic = request["topicName"]
        _topics[(arn, topic)] = {"topicName": topic, "status": "ACTIVE",
                                 **{k: request[k] for k in ("partitionCount", "replicationFactor", "configs") if k in request}}
    elif (arn, topic) not in _topics:
        return msk._not_found(f"Topic {topic} not found.")
    elif method == "PUT":
        _topics[(arn, topic)].update(request)
    return 200, {"Content-Type": "application/json"}, json.dumps(_topics[(arn, topic)]).encode()
msk.handle_request = handle_topics

# --- metric-math alarms: keep the alarm, watch its first plain metric ---------------------------
_orig_alarm_record = P._cw_metric_alarm_record
def _alarm_record(name, props):
    if props.get("Metrics"):
        stat = next((m["MetricStat"] for m in props["Metrics"] if m.get("MetricStat")), None)
        props = {**{k: v for k, v in props.items() if k != "Metrics"}}
        if stat:
            props.update({"MetricName": stat["Metric"]["MetricName"], "Namespace": stat["Metric"]["Namespace"],
                          "Dimensions": stat["Metric"].get("Dimensions", []), "Period": stat["Period"], "Statistic": stat["Stat"]})
        else:
            props.update({"MetricName": "unsupported-metric-math", "Namespace": "ministack_ext", "Period": 60, "Statistic": "Sum"})
    return _orig_alarm_record(name, props)
P._cw_metric_alarm_record = _alarm_record

def end_with_parent():
    """Tests that are killed leave no server behind: their end of stdin closes with them."""
    sys.stdin.buffer.read()
    os._exit(0)

if __name__ == "__main__":
    from ministack.app import main
    if os.environ.get("END_WITH_STDIN") == "1":
        threading.Thread(target=end_with_parent, daemon=True).start()
    main()
