-- What the application has at the target before the migration begins: its users.
CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    username TEXT NOT NULL
);
INSERT INTO users VALUES (1, 'admin'), (2, 'ada'), (3, '지훈'), (4, 'Zoë');
