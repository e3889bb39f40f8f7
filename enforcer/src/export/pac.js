function FindProxyForURL(url, host) {
    var parts = /^([a-z][a-z0-9+.-]*):\/\/(?:[^\/?#@]*@)?(?:\[[^\]]*\]|[^:\/?#]*)(?::([0-9]+))?/i.exec(url);
    var scheme = parts ? parts[1].toLowerCase() : "";
    var usual = { http: 80, ws: 80, https: 443, wss: 443, ftp: 21 };
    var port = parts && parts[2] ? parseInt(parts[2], 10) : usual.hasOwnProperty(scheme) ? usual[scheme] : -1;
    var name = host.toLowerCase().replace(/\.$/, "");
    for (var i = 0; i < RULES.length; i++) {
        if (RULES[i][0] === null || matches(SERVICES[RULES[i][0]], name, port)) {
            return RULES[i][1];
        }
    }
    return "DIRECT";
}

function matches(service, name, port) {
    return takesPort(service.ports, port) && (service.any || isNamed(service, name) || isWithin(service.nets, name));
}

function takesPort(ports, port) {
    for (var i = 0; i < ports.length; i++) {
        if (ports[i][0] <= port && port <= ports[i][1]) {
            return true;
        }
    }
    return ports.length === 0;
}

function isNamed(service, name) {
    if (service.names.hasOwnProperty(name)) {
        return true;
    }
    for (var dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1)) {
        if (service.below.hasOwnProperty(name.substring(dot + 1))) {
            return true;
        }
    }
    return false;
}

// Only of hosts that are addresses: a name's would have to be asked for.
function isWithin(nets, name) {
    if (!/^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$/.test(name)) {
        return false;
    }
    for (var i = 0; i < nets.length; i++) {
        if (isInNet(name, nets[i][0], nets[i][1])) {
            return true;
        }
    }
    return false;
}
