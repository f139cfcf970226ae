-- Lists a site's environments without its previews, of which there may be thousands.
CREATE INDEX IF NOT EXISTS environment_standard ON environment (site_id, slug) WHERE kind = 'standard';
