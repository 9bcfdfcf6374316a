//! A dashboard as Grafana imports it: the JSON model of version 10 and newer. Grafana, `kinds/dashboard/dashboard_kind.cue`.

use serde_json::{Map, Value, json};

use super::model::{Choices, Dashboard, Panel, Query, Shape, Unit, Variable};

/// What Grafana 10.4 writes; newer ones migrate it.
const SCHEMA: u32 = 39;
/// Rows of the grid that a panel takes, by its shape.
const TALL: u32 = 8;
const LOW: u32 = 5;
/// Columns of the grid.
const COLUMNS: u32 = 24;

/// A dashboard's file.
pub(super) fn text(board: &Dashboard) -> String {
    let text = serde_json::to_string_pretty(&sorted(json(board))).expect("a value is JSON");
    text + "\n"
}

/// Keys in the order of the alphabet, whatever else is built along.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<(String, Value)> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            pairs.into_iter().collect::<Map<_, _>>().into()
        }
        Value::Array(list) => list.into_iter().map(sorted).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn json(board: &Dashboard) -> Value {
    let links = json!([{
        "title": "Weir", "type": "dashboards", "tags": ["weir"], "asDropdown": true, "includeVars": true, "keepTime": true,
        "targetBlank": false, "icon": "external link", "tooltip": "", "url": "",
    }]);
    json!({
        "uid": board.uid,
        "title": board.title,
        "description": board.about,
        "tags": ["weir"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": { "from": "now-1h", "to": "now" },
        "timepicker": {},
        "annotations": { "list": [] },
        "links": links,
        "templating": { "list": variables(board) },
        "panels": panels(board),
    })
}

fn variables(board: &Dashboard) -> Vec<Value> {
    let chosen = json!({
        "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0, "refresh": 1, "regex": "",
        "multi": false, "includeAll": false, "current": {}, "options": [], "skipUrlSync": false,
    });
    std::iter::once(chosen).chain(board.variables.iter().map(variable)).collect()
}

fn variable(variable: &Variable) -> Value {
    let asked = |selector: &str, of: &str, several: bool| {
        let query = format!("label_values({selector}, {of})");
        let (current, every) = match several {
            true => (json!({ "selected": true, "text": ["All"], "value": ["$__all"] }), json!(".*")),
            false => (json!({}), Value::Null),
        };
        // Asked again when the time range changes: what was there an hour ago may be gone.
        json!({
            "name": variable.name, "label": variable.label, "type": "query", "datasource": source(), "definition": query,
            "query": { "qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery" },
            "refresh": 2, "sort": 1, "regex": "", "hide": 0, "multi": several, "includeAll": several, "allValue": every,
            "current": current, "options": [], "skipUrlSync": false,
        })
    };
    match &variable.from {
        Choices::One { selector, of } => asked(selector, of, false),
        Choices::Many { selector, of } => asked(selector, of, true),
        Choices::Fixed { words, first } => {
            let options: Vec<Value> = words
                .iter()
                .map(|word| json!({ "text": word, "value": word, "selected": first.contains(word) }))
                .collect();
            json!({
                "name": variable.name, "label": variable.label, "type": "custom", "query": words.join(","), "hide": 0, "multi": true,
                "includeAll": false, "current": { "selected": true, "text": first, "value": first }, "options": options, "skipUrlSync": false,
            })
        }
    }
}

/// Rows and panels, laid out from left to right and downwards.
fn panels(board: &Dashboard) -> Vec<Value> {
    let (mut all, mut id, mut y) = (Vec::new(), 0u32, 0u32);
    for row in &board.rows {
        id += 1;
        all.push(json!({
            "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
            "gridPos": { "x": 0, "y": y, "w": COLUMNS, "h": 1 },
        }));
        y += 1;
        let (mut x, mut height) = (0u32, 0u32);
        for one in &row.panels {
            let (w, h) = (u32::from(one.width), height_of(one));
            if x + w > COLUMNS {
                (x, y, height) = (0, y + height, 0);
            }
            id += 1;
            let mut value = panel(one);
            value["id"] = id.into();
            value["gridPos"] = json!({ "x": x, "y": y, "w": w, "h": h });
            all.push(value);
            (x, height) = (x + w, height.max(h));
        }
        y += height;
    }
    all
}

fn height_of(panel: &Panel) -> u32 {
    match panel.shape {
        Shape::Number => LOW,
        Shape::Lines if panel.width < 8 => LOW,
        Shape::Lines | Shape::Table | Shape::Heat => TALL,
    }
}

fn panel(panel: &Panel) -> Value {
    let targets: Vec<Value> =
        panel.queries.iter().enumerate().map(|(at, query)| target(panel.shape, at, query)).collect();
    let mut value = json!({
        "title": panel.title,
        "description": panel.about,
        "datasource": source(),
        "targets": targets,
        "fieldConfig": { "defaults": defaults(panel.unit), "overrides": [] },
    });
    let (kind, options) = match panel.shape {
        Shape::Number => (
            "stat",
            json!({
                "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
                "graphMode": "area", "colorMode": "value", "justifyMode": "auto", "orientation": "auto", "textMode": "auto",
            }),
        ),
        Shape::Lines => (
            "timeseries",
            json!({
                "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
        ),
        Shape::Table => ("table", json!({ "showHeader": true, "cellHeight": "sm", "footer": { "show": false } })),
        Shape::Heat => (
            "heatmap",
            json!({
                "calculate": false, "yAxis": { "unit": panel.unit.id(), "axisPlacement": "left" }, "cellGap": 1,
                "color": { "mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "fill": "dark-orange" },
                "tooltip": { "mode": "single", "yHistogram": false }, "legend": { "show": true },
            }),
        ),
    };
    value["type"] = kind.into();
    value["options"] = options;
    if panel.shape == Shape::Table {
        value["fieldConfig"]["overrides"] = overrides(panel);
        value["transformations"] = transformations(panel);
    }
    value
}

fn defaults(unit: Unit) -> Value {
    let mut defaults = json!({ "unit": unit.id(), "min": 0, "color": { "mode": "palette-classic" }, "mappings": [] });
    if unit == Unit::Ratio {
        defaults["max"] = 1.into();
    }
    defaults
}

/// Queries are named A, B, C and so on.
fn name_of(at: usize) -> String {
    let letter = u8::try_from(at).ok().and_then(|at| b'A'.checked_add(at)).filter(u8::is_ascii_uppercase);
    letter.map_or_else(|| format!("Q{at}"), |letter| char::from(letter).to_string())
}

fn target(shape: Shape, at: usize, query: &Query) -> Value {
    let format = match shape {
        Shape::Number | Shape::Lines => "time_series",
        Shape::Table => "table",
        Shape::Heat => "heatmap",
    };
    let instant = shape == Shape::Table;
    json!({
        "refId": name_of(at), "datasource": source(), "editorMode": "code", "expr": query.expr, "legendFormat": query.legend,
        "format": format, "instant": instant, "range": !instant,
    })
}

/// Each column's unit.
fn overrides(panel: &Panel) -> Value {
    let one = |query: &Query| {
        let unit = query.unit.unwrap_or(panel.unit);
        json!({ "matcher": { "id": "byName", "options": query.legend }, "properties": [{ "id": "unit", "value": unit.id() }] })
    };
    panel.queries.iter().map(one).collect()
}

/// One line for each set of labels, columns by their titles.
fn transformations(panel: &Panel) -> Value {
    let mut names = Map::new();
    for (at, query) in panel.queries.iter().enumerate() {
        let value = if panel.queries.len() == 1 { "Value".to_owned() } else { format!("Value #{}", name_of(at)) };
        names.insert(value, query.legend.as_str().into());
    }
    json!([
        { "id": "merge", "options": {} },
        { "id": "organize", "options": { "excludeByName": { "Time": true }, "indexByName": {}, "renameByName": names } },
    ])
}
