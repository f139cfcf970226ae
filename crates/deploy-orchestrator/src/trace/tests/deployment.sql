-- A deployment that is in its second step of three.
INSERT INTO site (id, slug, name, repository, created_at, created_by)
VALUES ('01900000-0000-7000-8000-00000000000a', 'docs', 'Docs', '', clock(), 'erin');
INSERT INTO environment (id, site_id, slug, kind, policy, created_at, created_by)
VALUES ('01900000-0000-7000-8000-00000000000b', '01900000-0000-7000-8000-00000000000a', 'production',
        'standard', '{}', clock(), 'erin');
INSERT INTO release (id, site_id, manifest_digest, manifest_size, state, commit, message, author,
                     author_email, dirty, created_at, created_by)
VALUES ('01900000-0000-7000-8000-00000000000c', '01900000-0000-7000-8000-00000000000a',
        decode(repeat('00', 32), 'hex'), 1, 'draft', '', '', '', '', false, clock(), 'erin');
INSERT INTO deployment (id, site_id, environment_id, release_id, kind, strategy, policy, state,
                        created_at, created_by, started_at, trace_id, span_id, request_traceparent)
VALUES ('01900000-0000-7000-8000-000000000001', '01900000-0000-7000-8000-00000000000a',
        '01900000-0000-7000-8000-00000000000b', '01900000-0000-7000-8000-00000000000c', 'standard',
        '{}', '{}', 'running', clock(), 'erin', clock(), '01900000000070008000000000000001',
        '8000000000000001', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01');
INSERT INTO step (id, deployment_id, ord, kind, plan_version, state, run_at, started_at, finished_at,
                  span_id)
VALUES ('01900000-0000-7000-8000-000000000011', '01900000-0000-7000-8000-000000000001', 1, 'prepare',
        1, 'done', clock(), clock(), clock(), '8000000000000011'),
       ('01900000-0000-7000-8000-000000000012', '01900000-0000-7000-8000-000000000001', 2,
        'verify_candidate', 1, 'ready', clock(), NULL, NULL, '8000000000000012'),
       ('01900000-0000-7000-8000-000000000013', '01900000-0000-7000-8000-000000000001', 3, 'switch',
        1, 'pending', NULL, NULL, NULL, '8000000000000013');
INSERT INTO deployment_log (deployment_id, at, step_ord, message)
VALUES ('01900000-0000-7000-8000-000000000001', clock(), 0, 'accepted from erin'),
       ('01900000-0000-7000-8000-000000000001', clock(), 1, 'prepare');
