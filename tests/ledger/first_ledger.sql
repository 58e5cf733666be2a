-- A ledger as commit e45b30f made it, before ledgers had versions.
BEGIN TRANSACTION;
CREATE TABLE models (
	pipeline VARCHAR(255) NOT NULL,
	version INTEGER NOT NULL,
	run_id VARCHAR(255) NOT NULL,
	span INTEGER NOT NULL,
	span_version INTEGER NOT NULL,
	model_uri TEXT NOT NULL,
	model_digest VARCHAR(64) NOT NULL,
	training_digest VARCHAR(64) NOT NULL,
	transform_graph_uri TEXT NOT NULL,
	transform_span INTEGER NOT NULL,
	statistics_uri TEXT NOT NULL,
	model_shape TEXT NOT NULL,
	line_length INTEGER DEFAULT '0' NOT NULL,
	base_version INTEGER,
	pushed_at DATETIME NOT NULL,
	PRIMARY KEY (pipeline, version)
);
INSERT INTO "models" VALUES('flights',1,'run-2',2,1,'/model/1','d','t','/graph',2,'/statistics/2','{}',0,NULL,'2013-03-01 12:00:00.123456');
INSERT INTO "models" VALUES('flights',2,'run-2',1,1,'/model/2','d','t','/graph',2,'/statistics/2','{}',0,1,'2013-03-01 12:00:00.123456');
INSERT INTO "models" VALUES('flights',3,'run-2',3,1,'/model/3','d','t','/graph',2,'/statistics/2','{}',0,2,'2013-03-01 12:00:00.123456');
CREATE TABLE pipelines (
	pipeline VARCHAR(255) NOT NULL,
	last_version INTEGER NOT NULL,
	champion_version INTEGER,
	moved_at DATETIME,
	PRIMARY KEY (pipeline)
);
INSERT INTO "pipelines" VALUES('flights',3,3,'2013-03-01 12:00:00.123456');
CREATE TABLE runs (
	id INTEGER NOT NULL,
	pipeline VARCHAR(255) NOT NULL,
	run_id VARCHAR(255) NOT NULL,
	span INTEGER NOT NULL,
	version INTEGER NOT NULL,
	"trigger" VARCHAR(255) NOT NULL,
	"plan" TEXT NOT NULL,
	outcome VARCHAR(16),
	error TEXT,
	started_at DATETIME NOT NULL,
	finished_at DATETIME,
	decision_path TEXT,
	PRIMARY KEY (id),
	UNIQUE (pipeline, run_id)
);
INSERT INTO "runs" VALUES(1,'flights','run-2',2,1,'next','{}','pushed',NULL,'2013-03-01 12:00:00.123456','2013-03-01 12:00:00.123456',NULL);
INSERT INTO "runs" VALUES(2,'flights','run-3',3,1,'next','{}','rejected',NULL,'2013-03-01 12:00:00.123456','2013-03-01 12:00:00.123456',NULL);
CREATE TABLE spans (
	id INTEGER NOT NULL,
	pipeline VARCHAR(255) NOT NULL,
	span INTEGER NOT NULL,
	version INTEGER NOT NULL,
	digest VARCHAR(64) NOT NULL,
	state VARCHAR(16) NOT NULL,
	num_examples INTEGER NOT NULL,
	drift_verdict VARCHAR(16),
	candidate_auc FLOAT,
	champion_auc FLOAT,
	pushed_version INTEGER,
	statistics_uri TEXT,
	replay_uri TEXT,
	prequential JSON,
	seconds FLOAT,
	run_id VARCHAR(255),
	reason TEXT,
	updated_at DATETIME NOT NULL,
	PRIMARY KEY (id),
	UNIQUE (pipeline, span, version, digest)
);
INSERT INTO "spans" VALUES(1,'flights',1,1,'d1','trained',5,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'run-2','in the window of span 2','2013-03-01 12:00:00.123456');
INSERT INTO "spans" VALUES(2,'flights',2,1,'d2','pushed',5,NULL,NULL,NULL,1,'/statistics/2','/replay/2','{"auc": 0.5}',NULL,'run-2',NULL,'2013-03-01 12:00:00.123456');
INSERT INTO "spans" VALUES(3,'flights',3,1,'d3','rejected',5,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'run-3',NULL,'2013-03-01 12:00:00.123456');
INSERT INTO "spans" VALUES(4,'flights',4,1,'d4','arrived',5,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2013-03-01 12:00:00.123456');
COMMIT;
